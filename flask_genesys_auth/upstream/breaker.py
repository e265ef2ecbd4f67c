"""Limits the cost of an outage: a bulkhead for each server, and a circuit breaker for each part of it.

A caller of any protocol enters, reports how the call ended, and leaves. Counters and circuits belong to one process; a
forked child begins with none.
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
"""Consecutive failures that open a circuit."""
FIRST_PAUSE = 5.0
"""Seconds until an open circuit lets the first call through (half-open)."""
LONGEST_PAUSE = 30.0
"""Upper limit in seconds of the growing pauses, and so of the time until a recovery is noticed."""
JITTER = 0.2
"""Random fraction of a pause, so that processes that saw the same outage do not retry together."""
MAX_CIRCUITS = 1024
"""Circuits that are kept. A circuit without a failure and without a call is removed."""

MAX_WAIT = 0.25
"""Seconds that a call waits for its turn while the server answers."""
SLOW_CALL = 1.0
"""Age in seconds from which a call under way suggests that the server hangs."""


@dataclass(slots=True)
class _Circuit:
    """The state of one part of one server.

    :param opened: the time at which it opened, or ``None`` while it is closed.
    :param until: the time at which an open circuit becomes half-open.
    :param probing: a call through the half-open circuit is under way.
    :param epoch: counts openings and closings; a call that began before one does not count after it.
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

    def __str__(self) -> str:
        return f"{self.server} ({self.part})" if self.part else self.server


class Passage:
    """One call to a server, or several that belong together; a context manager.

    It counts as failed if any of its calls has failed. Without a report it does not count.
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
        """Report that the server has answered, with any answer."""
        if self._failed is None:
            self._failed = False

    def failed(self, why: str) -> None:
        """Report that the server has not answered.

        :param why: for the log; printable, bounded, without a secret.
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
    """The calls and circuits of a :class:`Guard` in one process."""

    __slots__ = ("circuits", "left", "lock", "under_way", "waiting")

    def __init__(self) -> None:
        self.lock = Lock()
        self.left = Condition(self.lock)
        self.reset()

    def reset(self) -> None:
        self.circuits: dict[tuple[str, str], _Circuit] = {}
        self.under_way: defaultdict[str, set[Passage]] = defaultdict(set)
        self.waiting: dict[str, list[object]] = {}


class Guard:
    """Limits the concurrent calls to each server, and stops calls to a server that does not answer.

    Half as many calls again may wait for their turn, for ``max_wait`` seconds, and only while no call under way is
    older than :data:`SLOW_CALL`. So a caller of a hung server is refused at once.

    A circuit opens after :data:`FAILURES` consecutive failures. While it is open, no call passes. After a pause it is
    half-open: one call at a time passes. An answer closes the circuit; a failure doubles the pause, up to
    :data:`LONGEST_PAUSE`.

    :param max_wait: seconds that a call waits for its turn.
    :raises ValueError: if ``concurrent`` is less than 1.
    """

    def __init__(
        self,
        *,
        concurrent: int = CONCURRENT_CALLS,
        max_wait: float = MAX_WAIT,
        max_circuits: int = MAX_CIRCUITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrent < 1:
            raise ValueError("concurrent is at least 1")
        self._concurrent = concurrent
        self._max_wait = max_wait
        self._max_circuits = max_circuits
        self._clock = clock
        self._calls = PerProcess(_Calls)

    def enter(self, server: str, part: str = "", *, within: float = math.inf) -> Passage | Unavailable:
        """Return a passage, to be used as a context manager at once, or the reason why there is none.

        :param server: its calls are limited together, such as ``https://host:443``; it is shown in logs.
        :param part: a part of it that can fail alone, such as a tenant or an organization; it has its own circuit.
        :param within: seconds that the caller has; the wait takes at most half of them.
        """
        calls = self._calls.get()
        with calls.lock:
            # Waiting callers come first.
            found = self._entered(calls, server, part, len(calls.waiting.get(server, ())))
            if found is None and self._may_wait(calls, server):
                found = self._entered_in_turn(calls, server, part, min(self._max_wait, within / 2))
            return found if found is not None else self._busy(server)

    def waiting(self, server: str) -> int:
        """Return the number of callers in this process that wait for their turn."""
        calls = self._calls.get()
        with calls.lock:
            return len(calls.waiting.get(server, ()))

    def clear(self) -> None:
        """Close every circuit, and do not count calls under way any more."""
        calls = self._calls.get()
        with calls.lock:
            calls.left.notify_all()
            calls.reset()

    def _entered_in_turn(self, calls: _Calls, server: str, part: str, max_wait: float) -> Passage | Unavailable | None:
        place = object()
        queue = calls.waiting.setdefault(server, [])
        queue.append(place)

        def has_turn() -> bool:
            # clear() has replaced the queue: go on at once.
            return calls.waiting.get(server) is not queue or self._has_room(calls, server, queue.index(place))

        try:
            calls.left.wait_for(has_turn, max_wait)
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

        :param ahead: the number of callers that wait before it.
        """
        now = self._clock()
        circuit = calls.circuits.get((server, part))
        if circuit is not None and circuit.opened is not None and (circuit.probing or now < circuit.until):
            return Unavailable(
                Reason.CIRCUIT_OPEN,
                retry_after=max(1, math.ceil(circuit.until - now)),
                detail=f"{circuit} is not called: {circuit.failures} consecutive calls have failed, the last: "
                f"{circuit.why}",
                uncounted=True,
            )
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
        return waiting < max(1, self._concurrent // 2) and now - oldest < SLOW_CALL

    def _busy(self, server: str) -> Unavailable:
        detail = f"{server} is not called: {self._concurrent} calls to it are under way"
        return Unavailable(Reason.UPSTREAM_BUSY, retry_after=1, detail=detail, uncounted=True)

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
            # A call of the parent process, whose lock may be held forever in a child.
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
            # Without the lock, because a log handler may be slow.
            log()

    def _settle(self, circuit: _Circuit, passage: Passage) -> Callable[[], None] | None:
        """Count how a call ended; return a function that logs a change of the circuit."""
        now = self._clock()
        if passage._failed is None:
            return None
        if not passage._failed:
            opened, circuit.opened, circuit.failures = circuit.opened, None, 0
            if opened is None:
                return None
            circuit.epoch += 1
            return lambda: _log_closed(circuit, now - opened)
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
        return lambda: _log_opened(circuit)


def _log_opened(circuit: _Circuit) -> None:
    log_event(
        Event.CIRCUIT_OPENED,
        sentence=f"{circuit} does not answer: {FAILURES} consecutive calls have failed, the last: {circuit.why}. "
        f"Its users get 503 at once, and every {FIRST_PAUSE:.0f} to {LONGEST_PAUSE:.0f} seconds one request tries it. "
        "Check that server and the network to it. This application needs no restart.",
        upstream=circuit.server,
        part=circuit.part,
        detail=circuit.why,
    )


def _log_closed(circuit: _Circuit, seconds: float) -> None:
    log_event(
        Event.CIRCUIT_CLOSED,
        sentence=f"{circuit} answers again, after {seconds:.0f} seconds. No action is required.",
        upstream=circuit.server,
        part=circuit.part,
        elapsed=round(seconds, 1),
    )
