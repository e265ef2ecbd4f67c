"""Counts slots in Redis for several nodes, and in this process while Redis does not answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any

from ..chain.outcomes import Reason, Unavailable
from ..checks import SLOW, Check
from ..errors import StateUnavailable
from ..events import Event, log_event
from ..processes import PerProcess
from ..state.redis_client import RedisClient
from ..state.redis_health import server_checks
from .cache import MAX_ENTRIES, Cache
from .throttle import Limit, LocalLedger, Reservation, Wanted

PAUSE = 5.0
"""Seconds during which a failed server is not called; then one request tries it."""

# Each key is a sorted set of the slots taken, scored by the server's clock, which all nodes share.
_WAITS = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local waits, refused = {}, false
for place, key in ipairs(KEYS) do
  local amount, span = tonumber(ARGV[2 * place]), tonumber(ARGV[2 * place + 1])
  local wait = 0
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.6f', now - span))
  if amount == 0 then
    wait = span
  elseif redis.call('ZCARD', key) >= amount then
    wait = redis.call('ZRANGE', key, -amount, -amount, 'WITHSCORES')[2] + span - now
  end
  refused = refused or wait > 0
  waits[place] = string.format('%.6f', wait)
end
"""
_RESERVE = f"""{_WAITS}
if refused then return waits end
for place, key in ipairs(KEYS) do
  redis.call('ZADD', key, string.format('%.6f', now), ARGV[1])
  redis.call('PEXPIRE', key, math.ceil(ARGV[2 * place + 1] * 1000))
end
return {{}}
"""
_LOOK = f"{_WAITS}\nreturn waits"
_GIVE_BACK = "for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end"


class _Outage:
    """Whether this process's last call to the server has failed, and when to call it again."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.is_down = False
        self.retry_at = 0.0


class SharedLedger:
    """Implements :class:`~flask_genesys_auth.limits.throttle.Ledger` in Redis 6.2 or later, or Valkey.

    Every slot is taken in this process as well. The process therefore knows its own failures without a round trip, and
    the limits apply per process if the server does not answer. This is logged, because an attacker then has the limit
    once in each process.

    :param url: ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://``.
    :param namespace: keeps the counts of applications apart.
    :param timeout: seconds for each wait: for a connection, and for an answer.
    :param fallback: count in this process while the server does not answer; otherwise no request gets a slot.
    :raises ConfigurationError: if the URL is not valid.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        timeout: float,
        *,
        fallback: bool = True,
        clock: Callable[[], float] = time.monotonic,
        max_refusals: int = MAX_ENTRIES,
    ) -> None:
        scripts = {"reserve": _RESERVE, "give_back": _GIVE_BACK, "look": _LOOK}
        self._client = RedisClient(url, timeout, scripts, purpose="the throttle", key="throttle.storage_url")
        self._prefix = f"genesys-auth:{len(namespace)}:{namespace}:f:"
        self._fallback = fallback
        self._clock = clock
        self._local = LocalLedger(clock)
        self._refused_until: Cache[Wanted, float] = Cache(0, max_entries=max_refusals, clock=clock)
        self._outage = PerProcess(_Outage)

    def __repr__(self) -> str:
        return f"SharedLedger({self._client.name!r})"

    @property
    def degraded(self) -> bool:
        """Return whether this process's last call to the server has failed."""
        return self._outage.get().is_down

    @property
    def shared(self) -> bool:
        """Return whether the slots of other processes count: while the server answers."""
        return not self.degraded

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation | list[float] | Unavailable:
        """Take one slot of each limit (atomic over all nodes), or none and return the seconds until each has one."""
        local = self._local.reserve(wanted)
        if isinstance(local, list):
            return local
        slot = secrets.token_hex(12)
        try:
            waits = self._ask("reserve", slot, wanted)
        except BaseException:
            local.void()
            raise
        if waits is None and self._fallback:
            return local
        if waits is None:
            local.void()
            return self._unavailable()
        if waits:
            local.void()
            self._note_refusal(wanted, waits)
            return waits
        return _SharedSlots(self, local, [self._key(limit, key) for limit, key in wanted], slot)

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot, as far as this process knows. Takes none."""
        until = self._refused_until.get((limit, key)) or 0.0
        return max(until - self._clock(), self._local.wait(limit, key))

    def look(self, wanted: Sequence[Wanted]) -> list[float] | Unavailable:
        """Return the seconds until each limit has a slot on any node. Takes none."""
        waits = self._ask("look", "", wanted)
        if waits is None:
            return self._local.look(wanted) if self._fallback else self._unavailable()
        return waits

    def give_back(self, keys: Sequence[str], slot: str) -> None:
        """Return the slots taken under this name; while the server does not answer, they expire like failures."""
        self._run("give_back", keys, [slot])

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield whether the server works, and answers in less than ``slow`` seconds."""
        yield from server_checks(self._client, "throttle", slow=slow)

    def clear(self) -> None:
        """Return every slot, in Redis too.

        :raises StateUnavailable: if Redis does not answer.
        """
        self._local.clear()
        self._refused_until.clear()
        self._client.delete_all(self._prefix)

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
        self._client.close()

    def _key(self, limit: Limit, key: bytes) -> str:
        return f"{self._prefix}{limit.name}:{key.hex()}"

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            Reason.THROTTLE_UNAVAILABLE, detail=f"{self!r} does not answer, and throttle.fallback is off"
        )

    def _ask(self, script: str, slot: str, wanted: Sequence[Wanted]) -> list[float] | None:
        """Run a script over these limits and return its waits; ``None`` if the server does not answer."""
        keys = [self._key(limit, key) for limit, key in wanted]
        arguments = [part for limit, _ in wanted for part in (limit.amount, limit.span)]
        waits = self._run(script, keys, [slot, *arguments])
        return None if waits is None else [float(wait) for wait in waits]

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Run a script; ``None`` if the server does not answer, or is not called because it has just failed."""
        if not self._may_call():
            return None
        try:
            answer = self._client.run(script, keys, arguments)
        except StateUnavailable as error:
            self._note_outage(error)
            return None
        outage = self._outage.get()
        if outage.is_down:
            with outage.lock:
                recovered, outage.is_down = outage.is_down, False
            if recovered:
                log_event(Event.THROTTLE_REGAINED, detail=f"the throttle in {self._client.name} answers again")
        return answer

    def _may_call(self) -> bool:
        outage = self._outage.get()
        if not outage.is_down:
            return True
        with outage.lock:
            now = self._clock()
            if now < outage.retry_at:
                return False
            outage.retry_at = now + PAUSE
            return True

    def _note_outage(self, error: StateUnavailable) -> None:
        outage = self._outage.get()
        with outage.lock:
            first, outage.is_down = not outage.is_down, True
            outage.retry_at = self._clock() + PAUSE
        if first:
            meanwhile = "each process counts by itself" if self._fallback else "users cannot log in with a password"
            log_event(Event.THROTTLE_LOST, detail=f"{error}; until it does, {meanwhile} (throttle.fallback)")

    def _note_refusal(self, wanted: Sequence[Wanted], waits: list[float]) -> None:
        """Note which keys were over a limit, so that the gate knows it without a round trip."""
        reading = self._refused_until.begin()
        for one, wait in zip(wanted, waits, strict=True):
            self._refused_until.put(one, reading.began + wait, reading, seconds=wait)


class _SharedSlots(Reservation):
    """Slots taken together in Redis and in this process."""

    def __init__(self, ledger: SharedLedger, local: Reservation, keys: Sequence[str], slot: str) -> None:
        self._ledger = ledger
        self._local = local
        self._keys = keys
        self._slot = slot

    def void(self) -> None:
        """Return the slots."""
        keys, self._keys = self._keys, ()
        if keys:
            self._local.void()
            self._ledger.give_back(keys, self._slot)
