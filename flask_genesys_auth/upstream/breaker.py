"""Limits what an outage costs: a bulkhead for each server, and a circuit breaker for each part of it.

It does not depend on HTTP: a caller of any protocol enters, reports how the call ended, and leaves. Counters and
circuits belong to one process: a child starts with none.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Lock
from typing import TYPE_CHECKING

from ..chain.outcomes import Reason, Unavailable
from ..config.settings import CONCURRENT_CALLS
from ..events import Event, log_event
from ..processes import PerProcess

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

FAILURES = 5
"""Failures in a row that open a circuit."""
FIRST_PAUSE = 5.0
"""Seconds until an open circuit lets the first call try the server."""
LONGEST_PAUSE = 30.0
"""Upper limit in seconds of the growing pauses: users notice a recovery at the latest then."""
JITTER = 0.2
"""Random fraction of a pause, so that processes that saw the same outage do not try the server together."""
MAX_CIRCUITS = 1024
"""Circuits that are kept. A circuit without a failure and without a call is dropped."""

PATIENCE = 0.25
"""Seconds that a call waits for its turn while the server answers."""
YOUNG = 1.0
"""Age in seconds from which a call under way suggests that the server hangs."""

_BUSY_RETRY_AFTER = 1


@dataclass(slots=True)
class _Circuit:
    """The state of one part of one server.

    :param owner: the counters that it belongs to.
    :param calls: calls under way.
    :param failures: failures in a row.
    :param why: the last failure.
    :param opened: the time at which it opened, or ``None`` while it is closed.
    :param until: the time from which the next call may try an open circuit.
    :param probing: such a call is under way.
    :param epoch: counts openings and closings: a call that began before one does not count after it.
    """

    owner: _Calls
    server: str
    part: str
    calls: int = 0
    failures: int = 0
    why: str = ""
    opened: float | None = None
    pause: float = FIRST_PAUSE
    until: float = 0.0
    probing: bool = False
    epoch: int = 0

    @property
    def idle(self) -> bool:
        return not self.calls and not self.failures and self.opened is None

    def pause_from(self, now: float) -> None:
        self.until = now + self.pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - nothing secret


class Passage:
    """One call to a server, or several that belong together; a context manager, left however the call ends.

    It has failed if any of its calls has. Without a report it changes nothing.
    """

    __slots__ = ("_circuit", "_epoch", "_failed", "_guard", "_why", "began", "probe")

    def __init__(self, guard: Guard, circuit: _Circuit, *, began: float, probe: bool) -> None:
        self.began = began
        self._guard = guard
        self._circuit = circuit
        self._epoch = circuit.epoch
        self._failed: bool | None = None
        self._why = ""
        self.probe = probe

    def answered(self) -> None:
        """Report that the server has answered, whatever its answer."""
        if self._failed is None:
            self._failed = False

    def failed(self, why: str) -> None:
        """Report that the server has not answered.

        :param why: for the log: bounded, visible, without a secret.
        """
        self._failed = True
        self._why = why

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard._leave(self)


class _Calls:
    """What changes in a :class:`Guard`: one object for each process."""

    __slots__ = ("circuits", "left", "lock", "under_way", "waiting")

    def __init__(self) -> None:
        self.lock = Lock()
        self.left = Condition(self.lock)
        self.forget()

    def forget(self) -> None:
        self.circuits: dict[tuple[str, str], _Circuit] = {}
        self.under_way: defaultdict[str, set[Passage]] = defaultdict(set)
        self.waiting: dict[str, list[object]] = {}


class Guard:
    """Lets calls to servers pass while these answer, and only so many at the same time.

    Half as many again may wait for their turn, for ``patience`` seconds and only while all calls under way are younger
    than :data:`YOUNG`: a caller of a server that hangs is refused at once.

    A circuit opens after :data:`FAILURES` failures in a row. While it is open no call passes, except one at a time
    after a pause (half-open): its answer closes the circuit, its failure lengthens the pause, up to
    :data:`LONGEST_PAUSE`.

    :param concurrent: calls to one server at the same time, at least 1.
    :param patience: seconds that a call waits for its turn.
    :param max_circuits: circuits that are kept.
    :param clock: returns seconds that never go back.
    :raises ValueError: if ``concurrent`` is less than 1.
    """

    def __init__(
        self,
        *,
        concurrent: int = CONCURRENT_CALLS,
        patience: float = PATIENCE,
        max_circuits: int = MAX_CIRCUITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrent < 1:
            raise ValueError("concurrent is at least 1")
        self._concurrent = concurrent
        self._patience = patience
        self._max_circuits = max_circuits
        self._clock = clock
        self._calls = PerProcess(_Calls)

    def enter(self, server: str, part: str = "", *, within: float = math.inf) -> Passage | Unavailable:
        """Return a passage, to be used as a context manager at once, or the reason why there is none.

        :param server: whose calls are limited together, such as ``https://host:443``; it is shown in logs.
        :param part: what can fail there by itself: a tenant, an organization. Each has its own circuit.
        :param within: seconds that the caller has; half of them are left for the call itself.
        """
        calls = self._calls.get()
        with calls.lock:
            # Callers that wait already come first.
            found = self._entered(calls, server, part, len(calls.waiting.get(server, ())))
            if found is None and self._may_wait(calls, server):
                found = self._entered_in_turn(calls, server, part, min(self._patience, within / 2))
            return found if found is not None else _busy(server, self._concurrent)

    def waiting(self, server: str) -> int:
        """Return how many callers wait for their turn, in this process."""
        calls = self._calls.get()
        with calls.lock:
            return len(calls.waiting.get(server, ()))

    def clear(self) -> None:
        """Start anew: every circuit is closed, and calls under way do not count any more."""
        calls = self._calls.get()
        with calls.lock:
            calls.left.notify_all()
            calls.forget()

    def _entered_in_turn(self, calls: _Calls, server: str, part: str, patience: float) -> Passage | Unavailable | None:
        place = object()
        queue = calls.waiting.setdefault(server, [])
        queue.append(place)

        def has_turn() -> bool:
            # After clear() nobody waits in this queue any more.
            return calls.waiting.get(server) is not queue or self._has_room(calls, server, queue.index(place))

        try:
            calls.left.wait_for(has_turn, patience)
            return self._entered(calls, server, part, queue.index(place))
        finally:
            queue.remove(place)
            if not queue and calls.waiting.get(server) is queue:
                del calls.waiting[server]
            # The next in the queue may have a turn now.
            calls.left.notify_all()

    def _has_room(self, calls: _Calls, server: str, ahead: int) -> bool:
        return len(calls.under_way.get(server, ())) + ahead < self._concurrent

    def _entered(self, calls: _Calls, server: str, part: str, ahead: int) -> Passage | Unavailable | None:
        """Return a passage, or that the circuit is open; ``None`` if it is not this call's turn.

        :param ahead: how many wait before it.
        """
        now = self._clock()
        circuit = calls.circuits.get((server, part))
        if circuit is not None and circuit.opened is not None and (circuit.probing or now < circuit.until):
            return _open(circuit, now)
        if not self._has_room(calls, server, ahead):
            return None
        if circuit is None:
            circuit = self._added(_Circuit(calls, server, part))
        circuit.calls += 1
        circuit.probing = circuit.opened is not None
        passage = Passage(self, circuit, began=now, probe=circuit.probing)
        calls.under_way[server].add(passage)
        return passage

    def _may_wait(self, calls: _Calls, server: str) -> bool:
        now = self._clock()
        oldest = min((passage.began for passage in calls.under_way.get(server, ())), default=now)
        waiting = len(calls.waiting.get(server, ()))
        return waiting < max(1, self._concurrent // 2) and now - oldest < YOUNG

    def _added(self, circuit: _Circuit) -> _Circuit:
        circuits = circuit.owner.circuits
        if len(circuits) >= self._max_circuits:
            oldest = next((key for key, known in circuits.items() if not known.calls), None)
            if oldest is not None:
                del circuits[oldest]
        circuits[circuit.server, circuit.part] = circuit
        return circuit

    def _leave(self, passage: Passage) -> None:
        circuit, calls = passage._circuit, self._calls.get()
        if circuit.owner is not calls:
            # A call of the parent process: a child may find its lock held for ever.
            return
        with calls.lock:
            under_way = calls.under_way.get(circuit.server, set())
            if passage not in under_way:
                # It began before clear().
                return
            under_way.discard(passage)
            if not under_way:
                del calls.under_way[circuit.server]
            calls.left.notify_all()
            circuit.calls -= 1
            if passage.probe:
                circuit.probing = False
            log = self._settle(circuit, passage) if passage._epoch == circuit.epoch else None
            if circuit.idle:
                del calls.circuits[circuit.server, circuit.part]
        if log is not None:
            # A log handler may be slow: other callers must not wait for it.
            log()

    def _settle(self, circuit: _Circuit, passage: Passage) -> Callable[[], None] | None:
        """Count how a call ended; return what logs a change of the circuit."""
        now = self._clock()
        if passage._failed is None:
            return None
        if not passage._failed:
            opened, circuit.opened, circuit.failures = circuit.opened, None, 0
            if opened is None:
                return None
            circuit.epoch += 1
            return lambda: _tell_closed(circuit, now - opened)
        circuit.failures += 1
        circuit.why = passage._why
        if circuit.opened is not None:
            circuit.pause = min(2 * circuit.pause, LONGEST_PAUSE)
            circuit.pause_from(now)
            return None
        if circuit.failures < FAILURES:
            return None
        circuit.opened = now
        circuit.epoch += 1
        circuit.pause = FIRST_PAUSE
        circuit.pause_from(now)
        return lambda: _tell_open(circuit)


def _open(circuit: _Circuit, now: float) -> Unavailable:
    return Unavailable(
        Reason.CIRCUIT_OPEN,
        retry_after=max(1, math.ceil(circuit.until - now)),
        detail=f"{_name(circuit)} is not asked: {circuit.failures} calls in a row have failed, the last: {circuit.why}",
        uncounted=True,
    )


def _busy(server: str, concurrent: int) -> Unavailable:
    return Unavailable(
        Reason.UPSTREAM_BUSY,
        retry_after=_BUSY_RETRY_AFTER,
        detail=f"{server} is not asked: {concurrent} calls to it are under way",
        uncounted=True,
    )


def _name(circuit: _Circuit) -> str:
    return f"{circuit.server} ({circuit.part})" if circuit.part else circuit.server


def _tell_open(circuit: _Circuit) -> None:
    log_event(
        Event.CIRCUIT_OPENED,
        sentence=f"{_name(circuit)} does not answer: {FAILURES} calls in a row have failed, the last: {circuit.why}. "
        f"Its users get 503 at once, and every {FIRST_PAUSE:.0f} to {LONGEST_PAUSE:.0f} seconds one request tries it. "
        "Look at that server and the way to it; nothing needs a restart here.",
        upstream=circuit.server,
        part=circuit.part,
        detail=circuit.why,
    )


def _tell_closed(circuit: _Circuit, seconds: float) -> None:
    log_event(
        Event.CIRCUIT_CLOSED,
        sentence=f"{_name(circuit)} answers again, after {seconds:.0f} seconds: it is asked as usual. "
        "Nothing needs to be done.",
        upstream=circuit.server,
        part=circuit.part,
        elapsed=round(seconds, 1),
    )
