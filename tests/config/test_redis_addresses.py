"""Redis URLs: their parts, the form that messages show, and refused forms."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from flask_genesys_auth.config.databases import is_redis, redis_address

SENTINEL = "redis+sentinel://"


@pytest.mark.parametrize(
    ("url", "shown", "secrets"),
    [
        ("redis://redis.internal", "redis://redis.internal:6379", ()),
        ("redis://ann:pw@redis.internal:6380/3", "redis://redis.internal:6380/3", ("pw",)),
        ("rediss://:p%40w@[::1]/0", "rediss://[::1]:6379/0", ("p%40w", "p@w")),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0", ()),
        ("unix:///run/redis.sock?db=7", "unix:///run/redis.sock?db=7", ()),
        ("unix://ann:p%2Fw@/run/redis.sock?db=7", "unix:///run/redis.sock?db=7", ("p%2Fw", "p/w")),
        ("unix://ann@/run/redis.sock?password=pw", "unix:///run/redis.sock?db=0", ("pw",)),
        ("unix:///run/redis.sock?username=ann&password=pw&db=1", "unix:///run/redis.sock?db=1", ("pw",)),
    ],
)
def test_shown_redis_url_holds_no_secret(url: str, shown: str, secrets: tuple[str, ...]) -> None:
    address = redis_address(url)
    assert (address.shown, address.secrets) == (shown, secrets)
    assert not any(secret in repr(address) for secret in secrets)
    assert is_redis(url)


@pytest.mark.parametrize(
    ("url", "hosts", "service", "database", "user", "password"),
    [
        (f"{SENTINEL}s1.internal/portal/0", [("s1.internal", 26379)], "portal", 0, None, None),
        (f"{SENTINEL}s1.internal/portal", [("s1.internal", 26379)], "portal", 0, None, None),
        (f"{SENTINEL}s1:26380,s2/my-portal_1.x/12", [("s1", 26380), ("s2", 26379)], "my-portal_1.x", 12, None, None),
        (f"{SENTINEL}[::1],[2001:db8::7]:1/p/0", [("::1", 26379), ("2001:db8::7", 1)], "p", 0, None, None),
        (f"{SENTINEL}:p%2Fw%40%2C@10.0.0.7,s2/p/0", [("10.0.0.7", 26379), ("s2", 26379)], "p", 0, None, "p/w@,"),
        (f"{SENTINEL}a%3An:pw@s1/p/0", [("s1", 26379)], "p", 0, "a:n", "pw"),
    ],
)
def test_addresses_of_sentinels_are_read(
    url: str, hosts: list[tuple[str, int]], service: str, database: int, user: str | None, password: str | None
) -> None:
    address = redis_address(url)
    found = (list(address.hosts), address.service, address.database, address.user, address.password)
    assert found == (hosts, service, database, user, password)
    assert password is None or password not in repr(address) + address.shown
    assert is_redis(url)


def test_sentinels_are_shown_with_their_ports() -> None:
    shown = redis_address(f"{SENTINEL}ann:pw@s1.internal,[::1]:1/portal").shown
    assert shown == "redis+sentinel://s1.internal:26379,[::1]:1/portal/0"


@pytest.mark.parametrize(
    "url",
    [
        f"{SENTINEL}",
        f"{SENTINEL}s1.internal",
        f"{SENTINEL}s1.internal/",
        f"{SENTINEL}/portal/0",
        f"{SENTINEL}s1,/portal/0",
        f"{SENTINEL}s1,,s2/portal/0",
        f"{SENTINEL}s1:0/portal/0",
        f"{SENTINEL}s1:port/portal/0",
        f"{SENTINEL}s1:70000/portal/0",
        f"{SENTINEL}::1/portal/0",
        f"{SENTINEL}[::1/portal/0",
        f"{SENTINEL}s1 s2/portal/0",
        f"{SENTINEL}s1/por tal/0",
        f"{SENTINEL}s1/portal/zero",
        f"{SENTINEL}s1/portal/0/1",
        f"{SENTINEL}s1/portal/0?db=1",
        f"{SENTINEL}s1/portal/0#x",
        f"{SENTINEL}pw@s1/portal/0",
        f"{SENTINEL}ann:@s1/portal/0",
        f"{SENTINEL}@s1/portal/0",
    ],
)
def test_other_addresses_of_sentinels_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r'must be of the form "redis\+sentinel://user:password@sentinel1'):
        redis_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "unix://",
        "unix:///",
        "unix://localhost/run/redis.sock",
        "unix://ann:pw@localhost/run/redis.sock",
        "unix://:0/run/redis.sock",
        "unix:///run/redis.sock?db=one",
        "unix:///run/redis.sock?db=",
        "unix:///run/redis.sock?db=1&db=2",
        "unix:///run/redis.sock?socket_timeout=0",
        "unix:///run/redis.sock#x",
    ],
)
def test_other_addresses_of_sockets_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match='must be of the form "unix:///run'):
        redis_address(url)


@pytest.mark.parametrize("url", ["redis://", "redis://h:0", "redis://h/x", "redis://[::1", "redis+tls://h", "h", ""])
def test_other_addresses_of_redis_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match='must be of the form "redis://'):
        redis_address(url)
