"""Slots counted in Redis for several nodes, and in this process for the times when Redis does not answer."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from ..chain.outcomes import Reason, Unavailable
from ..checks import SLOW, Check
from ..errors import StateUnavailable
from ..events import Event, log_event
from ..processes import PerProcess
from ..state.redis_client import RedisClient
from ..state.redis_health import server_checks
from .throttle import Limit, LocalLedger, Reservation, Wanted

PAUSE = 5.0
"""Seconds for which a server that did not answer is not asked again; then one request tries."""
MAX_NOTES = 10_000

# Each key is a sorted set: the slots taken, by the moment (the server's clock, which all nodes share).
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


class _Notes:
    """What one process knows: whether the server answers, and which limits were full when it was asked."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.down = False
        self.ask_again = 0.0
        self.refused: OrderedDict[Wanted, float] = OrderedDict()


class SharedLedger:
    """Implements :class:`~flask_genesys_auth.limits.throttle.Ledger` in Redis 6.2 or later, or Valkey.

    Every slot is taken in this process as well. So what this process has seen is known without a round trip, and when
    the server does not answer, the limits go on as limits of this process: loudly, for an attacker then has them once
    in each process.

    :param url: ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://``.
    :param namespace: whose counts these are.
    :param timeout: seconds for each wait: for a connection, and for an answer.
    :param fallback: go on in this process when the server does not answer; else nobody gets a slot meanwhile.
    :param clock: seconds that never go back.
    :param max_notes: how many refusals are remembered.
    :raises ConfigurationError: if the address cannot be read.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        timeout: float,
        *,
        fallback: bool = True,
        clock: Callable[[], float] = time.monotonic,
        max_notes: int = MAX_NOTES,
    ) -> None:
        scripts = {"reserve": _RESERVE, "give_back": _GIVE_BACK, "look": _LOOK}
        self._client = RedisClient(url, timeout, scripts, purpose="the throttle", key="throttle.storage_url")
        self._prefix = f"genesys-auth:{len(namespace)}:{namespace}:f:"
        self._fallback = fallback
        self._clock = clock
        self._max_notes = max_notes
        self._local = LocalLedger(clock)
        self._notes = PerProcess(_Notes)

    def __repr__(self) -> str:
        return f"SharedLedger({self._client.name!r})"

    @property
    def degraded(self) -> bool:
        """Tell whether the server did not answer when it was last asked."""
        return self._notes.get().down

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation | list[float] | Unavailable:
        """Take one slot of each (atomic over all nodes), or none and return the seconds until each has one."""
        local = self._local.reserve(wanted)
        if isinstance(local, list):
            return local
        if not self._may_ask():
            return self._without(local)
        slot = secrets.token_hex(12)
        keys = [self._key(limit, key) for limit, key in wanted]
        try:
            waits = self._ask("reserve", slot, wanted)
        except BaseException:
            local.void()
            raise
        if waits is None:
            return self._without(local)
        if waits:
            local.void()
            self._note_refusal(wanted, waits)
            return waits
        return _SharedSlots(self, local, keys, slot)

    def wait(self, limit: Limit, key: bytes) -> float:
        """Return the seconds until there is a slot as far as this process knows; 0 if there is one. Takes none."""
        until = self._notes.get().refused.get((limit, key), 0.0)
        return max(until - self._clock(), self._local.wait(limit, key), 0.0)

    def look(self, wanted: Sequence[Wanted]) -> list[float] | Unavailable:
        """Return the seconds until each has a slot on any node, 0 where it has. Takes none."""
        waits = self._ask("look", "", wanted) if self._may_ask() else None
        if waits is None:
            return self._local.look(wanted) if self._fallback else self._nobody_knows()
        return waits

    @property
    def shared(self) -> bool:
        """Tell whether what other processes have taken counts: while the server answers."""
        return not self._notes.get().down

    def give_back(self, keys: Sequence[str], slot: str) -> None:
        """Return what was taken under this name; if the server does not answer, it expires like a failure."""
        if not self._may_ask():
            return
        try:
            self._client.run("give_back", keys, [slot])
        except StateUnavailable as error:
            self._note_outage(error)
        else:
            self._note_health()

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield whether the server is as it must be, and answers in less than ``slow`` seconds."""
        yield from server_checks(self._client, "throttle", slow=slow)

    def clear(self) -> None:
        """Forget every slot that was taken, in Redis too.

        :raises StateUnavailable: if it does not answer.
        """
        self._local.clear()
        notes = self._notes.get()
        with notes.lock:
            notes.refused.clear()
        self._client.delete_all(self._prefix)

    def close(self) -> None:
        """Close the connections of this process; new ones are opened when they are needed."""
        self._client.close()

    def _key(self, limit: Limit, key: bytes) -> str:
        return f"{self._prefix}{limit.name}:{key.hex()}"

    def _without(self, local: Reservation) -> Reservation | Unavailable:
        if self._fallback:
            return local
        local.void()
        return self._nobody_knows()

    def _nobody_knows(self) -> Unavailable:
        return Unavailable(Reason.THROTTLE_UNAVAILABLE, detail=f"nobody can tell the failures so far: {self!r} is down")

    def _ask(self, script: str, slot: str, wanted: Sequence[Wanted]) -> list[float] | None:
        """Run a script over these limits; ``None``: the server does not answer."""
        keys = [self._key(limit, key) for limit, key in wanted]
        arguments = [part for limit, _ in wanted for part in (limit.amount, limit.span)]
        try:
            waits = [float(wait) for wait in self._client.run(script, keys, [slot, *arguments])]
        except StateUnavailable as error:
            self._note_outage(error)
            return None
        self._note_health()
        return waits

    def _may_ask(self) -> bool:
        notes = self._notes.get()
        if not notes.down:
            return True
        with notes.lock:
            now = self._clock()
            if now < notes.ask_again:
                return False
            notes.ask_again = now + PAUSE
            return True

    def _note_outage(self, error: StateUnavailable) -> None:
        notes = self._notes.get()
        with notes.lock:
            first, notes.down = not notes.down, True
            notes.ask_again = self._clock() + PAUSE
        if first:
            meanwhile = "each process counts for itself" if self._fallback else "nobody can log in by password"
            log_event(Event.THROTTLE_LOST, detail=f"{error}; until it does, {meanwhile} (throttle.fallback)")

    def _note_health(self) -> None:
        notes = self._notes.get()
        if not notes.down:
            return
        with notes.lock:
            back, notes.down = notes.down, False
        if back:
            log_event(Event.THROTTLE_REGAINED, detail=f"the throttle in {self._client.name} answers again")

    def _note_refusal(self, wanted: Sequence[Wanted], waits: list[float]) -> None:
        """Keep in mind who was over a limit, so that it is known without asking (remembered credentials)."""
        notes, now = self._notes.get(), self._clock()
        with notes.lock:
            for one, wait in zip(wanted, waits, strict=True):
                if wait > 0:
                    notes.refused[one] = now + wait
                    notes.refused.move_to_end(one)
            while notes.refused and (len(notes.refused) > self._max_notes or next(iter(notes.refused.values())) <= now):
                notes.refused.popitem(last=False)


class _SharedSlots:
    """Slots taken together in Redis and here, returned at most once."""

    def __init__(self, ledger: SharedLedger, local: Reservation, keys: Sequence[str], slot: str) -> None:
        self._ledger = ledger
        self._local = local
        self._keys = keys
        self._slot = slot

    def succeeded(self) -> None:
        """Return the slots: the credentials were good."""
        self.void()

    def void(self) -> None:
        """Return the slots: nobody has said whether the credentials are good."""
        keys, self._keys = self._keys, ()
        if keys:
            self._local.void()
            self._ledger.give_back(keys, self._slot)
