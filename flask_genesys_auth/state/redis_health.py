"""What a Redis or Valkey server says of its own health."""

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
    """Yield checks of the server: reachable, its version, its clock, what it forgets and when, what a fail-over loses.

    :param name: the room: ``state`` or ``throttle``.
    :param slow: seconds from which an answer is too slow.
    """
    try:
        client.call(lambda redis: redis.ping())
        began = perf_counter()
        seconds, microseconds = client.call(lambda redis: redis.time())
        taken = perf_counter() - began
        ahead = seconds + microseconds / 1e6 - (time.time() - taken / 2)
        info: dict[str, Any] = client.call(lambda redis: redis.info())
    except StateUnavailable as error:
        advice = "see that it runs, and that this machine may reach it with that user and password"
        yield Check(f"{name}.server", "failure", error.finding, advice)
        return
    yield _version_check(client.name, info, f"{name}.server", taken=taken, slow=slow)
    yield clock_check(f"{name}.clock", "Redis", ahead, allowed=_CLOCKS_MAY_DIFFER)
    yield _memory_check(info, f"{name}.maxmemory_policy")
    yield _role_check(info, f"{name}.role")
    if client.fails_over or info.get("connected_slaves"):
        yield _failover_check(info, f"{name}.failover")


def persistence_check(client: RedisClient, name: str) -> Check:
    """Say whether what the server keeps survives its restart; it may not let us see that."""
    try:
        info: dict[str, Any] = client.call(lambda redis: redis.info("persistence"))
    except StateUnavailable as error:
        return Check(name, "failure", error.finding, "see that it runs")
    if info.get("aof_enabled"):
        return Check(name, "ok", "it appends every change to a file (appendonly)")
    try:
        saves = client.call(lambda redis: redis.config_get("save")).get("save", "")
    except StateUnavailable:
        return Check(name, "ok", "no appendonly; whether it saves snapshots it does not tell this user")
    if saves:
        finding = f"it saves snapshots (save {saves}): a crash ends the logins since the last one"
        return Check(name, "ok", finding)
    return Check(
        name,
        "warning",
        "nothing of it survives a restart: everybody is logged out, and a SAML message could be used again",
        "set appendonly yes in redis.conf, or accept that",
    )


def _version_check(server: str, info: dict[str, Any], name: str, *, taken: float, slow: float) -> Check:
    product = str(info.get("server_name") or "redis").capitalize()
    version = str(info.get("redis_version", "?"))
    finding = f"{product} {version} at {server}, {1000 * taken:.1f} ms"
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < _OLDEST:
        return Check(name, "failure", finding, "version 6.2 or later is needed")
    if taken > slow:
        return Check(name, "warning", finding, "every request waits that long: let it stand nearer")
    return Check(name, "ok", finding)


def _memory_check(info: dict[str, Any], name: str) -> Check:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Check(name, "ok", "it evicts nothing (noeviction)")
    if not info.get("maxmemory"):
        finding = f"{policy}, but without a maxmemory it evicts nothing"
        return Check(name, "warning", finding, "set maxmemory-policy noeviction before somebody sets maxmemory")
    return Check(
        name,
        "failure",
        f"{policy}: when memory is short it throws away login sessions, or the memory that a SAML message was used",
        "set maxmemory-policy noeviction; give it a server or a database of its own",
    )


def _role_check(info: dict[str, Any], name: str) -> Check:
    if info.get("role") == "master":
        return Check(name, "ok", "it takes changes")
    return Check(name, "failure", "it is a replica, which takes no changes", "name the master in the address")


def _failover_check(info: dict[str, Any], name: str) -> Check:
    """Report what a fail-over loses: Redis confirms a write before a replica has it."""
    # INFO has this field only where both min-replicas-to-write and min-replicas-max-lag are set.
    if "min_slaves_good_slaves" in info:
        finding = (
            "a fail-over can lose the last writes (a revocation, a used assertion), but no more than those of "
            "min-replicas-max-lag seconds: min-replicas-to-write is set"
        )
        return Check(name, "ok", finding)
    return Check(
        name,
        "warning",
        "a fail-over can lose the last writes: a revoked session is valid again, a SAML assertion can be used again",
        "set min-replicas-to-write 1 and min-replicas-max-lag 10 in redis.conf of each server, to bound what is lost",
    )
