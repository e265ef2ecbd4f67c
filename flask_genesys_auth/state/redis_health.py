"""Check the health of a Redis or Valkey server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..checks import SLOW, Check, clock_check
from ..errors import StateUnavailable

if TYPE_CHECKING:
    from .redis_client import RedisClient

_OLDEST = (6, 2)
_CLOCKS_MAY_DIFFER = 30.0


def server_checks(client: RedisClient, name: str, *, slow: float = SLOW) -> Iterator[Check]:
    """Yield the checks of connection, version, clock, eviction, role and fail-over.

    :param name: the first part of the checks' names: ``state`` or ``throttle``.
    :param slow: an answer that takes more seconds is reported.
    """
    try:
        client.call(lambda redis: redis.ping())
        began = perf_counter()
        seconds, microseconds = client.call(lambda redis: redis.time())
        taken = perf_counter() - began
        ahead = seconds + microseconds / 1e6 - (time.time() - taken / 2)
        info: dict[str, Any] = client.call(lambda redis: redis.info())
    except StateUnavailable as error:
        advice = "start it, and check that this machine may reach it with that user and password"
        yield Check(f"{name}.server", "failure", error.finding, advice)
        return
    yield _version_check(client.name, info, f"{name}.server", taken=taken, slow=slow)
    yield clock_check(f"{name}.clock", "Redis", ahead, allowed=_CLOCKS_MAY_DIFFER)
    yield _memory_check(info, f"{name}.maxmemory_policy")
    yield _role_check(info, f"{name}.role")
    if client.fails_over or info.get("connected_slaves"):
        yield _failover_check(info, f"{name}.failover")


def persistence_check(client: RedisClient, name: str) -> Check:
    """Check whether the data survive a restart of the server."""
    try:
        info: dict[str, Any] = client.call(lambda redis: redis.info("persistence"))
    except StateUnavailable as error:
        return Check(name, "failure", error.finding, "start it")
    if info.get("aof_enabled"):
        return Check(name, "ok", "each change is appended to a file (appendonly)")
    try:
        saves = client.call(lambda redis: redis.config_get("save")).get("save", "")
    except StateUnavailable:
        return Check(name, "ok", "appendonly is off; this user may not read whether it saves snapshots")
    if saves:
        finding = f"it saves snapshots (save {saves}): a crash loses the logins since the last snapshot"
        return Check(name, "ok", finding)
    return Check(
        name,
        "warning",
        "a restart loses all data: users are logged out, and a SAML message could be used again",
        "set appendonly yes in redis.conf, or accept this",
    )


def _version_check(server: str, info: dict[str, Any], name: str, *, taken: float, slow: float) -> Check:
    product = str(info.get("server_name") or "redis").capitalize()
    version = str(info.get("redis_version", "?"))
    finding = f"{product} {version} at {server}, {1000 * taken:.1f} ms"
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < _OLDEST:
        return Check(name, "failure", finding, "upgrade to version 6.2 or later")
    if taken > slow:
        return Check(name, "warning", finding, "move it closer to this machine: each request waits as long")
    return Check(name, "ok", finding)


def _memory_check(info: dict[str, Any], name: str) -> Check:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Check(name, "ok", "it does not evict keys (noeviction)")
    if not info.get("maxmemory"):
        finding = f"{policy}, but without maxmemory it does not evict keys"
        return Check(name, "warning", finding, "set maxmemory-policy noeviction before you set maxmemory")
    return Check(
        name,
        "failure",
        f"{policy}: when memory is short it evicts login sessions, or the record that a SAML message was used",
        "set maxmemory-policy noeviction; use a server of its own for the state",
    )


def _role_check(info: dict[str, Any], name: str) -> Check:
    if info.get("role") == "master":
        return Check(name, "ok", "it accepts writes")
    return Check(name, "failure", "it is a replica, which does not accept writes", "name the primary in the URL")


def _failover_check(info: dict[str, Any], name: str) -> Check:
    """Report what a fail-over loses: Redis confirms a write before a replica has it."""
    # INFO has this field only where both min-replicas-to-write and min-replicas-max-lag are set.
    if "min_slaves_good_slaves" in info:
        finding = (
            "a fail-over can lose the last writes (a revocation, a used assertion), at most those of "
            "min-replicas-max-lag seconds: min-replicas-to-write is set"
        )
        return Check(name, "ok", finding)
    return Check(
        name,
        "warning",
        "a fail-over can lose the last writes: a revoked session is valid again, a SAML assertion can be used again",
        "set min-replicas-to-write 1 and min-replicas-max-lag 10 in redis.conf of each server, to bound what is lost",
    )
