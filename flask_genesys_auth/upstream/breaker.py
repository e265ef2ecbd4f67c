"""What an outage may cost: a bound on the calls at the same time, and a circuit that opens when nobody answers.

It knows nothing of HTTP: whoever asks a server, by whatever protocol, enters, says how the call ended, and leaves.
All of it is of one process; a forked child begins anew.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

from ..chain.decision import Reason, Unavailable
from ..config.settings import CONCURRENT_CALLS
from ..events import Event, tell
from ..forks import fork_safe_lock, watch_forks

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

FAILURES = 5
"""Failures in a row that open the circuit: more than one bad moment of a good server, and few users who wait."""
FIRST_PAUSE = 5.0
"""Seconds until an open circuit tries the server for the first time: a restart is over then, users have not left."""
LONGEST_PAUSE = 30.0
"""Seconds that the growing pauses end at: so long after the server is well, users notice it at the latest."""
JITTER = 0.2
"""The part by which a pause differs at random: processes that saw the same outage do not come back together."""
MAX_CIRCUITS = 1024
"""Circuits that are remembered; those without a failure and without a call are none."""

PATIENCE = 0.25
"""Seconds that a call waits for one of those under way to end, where these are young: a few that come at once are not
sent away by a server that is well."""
YOUNG = 1.0
"""Seconds for which a call under way is no sign that the server hangs."""

_BUSY_RETRY_AFTER = 1


@dataclass(slots=True)
class _Circuit:
    """What is known of one part of one server.

    :param calls: under way.
    :param failures: in a row.
    :param why: the last of them.
    :param opened: when, or ``None``: it is closed.
    :param until: when the next call may try an open one.
    :param probing: that call is under way.
    :param epoch: counts openings and closings, so that a call which began before one has no say after it.
    """

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
    generation: int = 0

    @property
    def idle(self) -> bool:
        return not self.calls and not self.failures and self.opened is None

    def pause_from(self, now: float) -> None:
        self.until = now + self.pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - nothing secret


class Passage:
    """One call, or several that belong together, to a server; a context, which is left however it ends.

    It has failed if any of its calls has. Where nothing was said it tells nothing of the server.
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
        """Say that the server has answered, whatever it thinks of the question."""
        if self._failed is None:
            self._failed = False

    def failed(self, why: str) -> None:
        """Say that it has not.

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


class Guard:
    """Lets calls to servers pass while these answer, and only so many at the same time.

    Half as many again may wait for their turn, for :data:`PATIENCE` seconds and only while all calls under way are
    younger than :data:`YOUNG`: whoever asks a server that hangs is sent away at once.

    A circuit opens after :data:`FAILURES` failures in a row. While it is open nobody is let through, but for one call
    at a time after a pause: if that is answered the circuit closes, if it fails the pause grows, up to
    :data:`LONGEST_PAUSE`, and if it says nothing the next call tries.

    :param concurrent: calls to one server at the same time.
    :param patience: seconds that a call waits for its turn.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        concurrent: int = CONCURRENT_CALLS,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrent < 1:
            raise ValueError("concurrent is at least 1")
        self._concurrent = concurrent
        self._patience = patience
        self._clock = clock
        self._lock = fork_safe_lock()
        self._generation = 0
        self._begin()
        watch_forks(self)

    def enter(self, server: str, part: str = "", *, within: float = math.inf) -> Passage | Unavailable:
        """Return a passage, to be used as a context at once, or why there is none.

        :param server: whose calls are bounded together, such as ``https://host:443``; it is shown in logs.
        :param part: what can fail there while the rest is well: a tenant, an organization. Each has its own circuit.
        :param within: seconds that whoever calls has; half of them are left for the call itself.
        """
        with self._lock:
            # Who waits already comes first.
            found = self._entered(server, part, len(self._waiting.get(server, ())))
            if found is None and self._may_wait(server):
                found = self._entered_in_turn(server, part, min(self._patience, within / 2))
            return found if found is not None else _busy(server, self._concurrent)

    def _entered_in_turn(self, server: str, part: str, patience: float) -> Passage | Unavailable | None:
        generation, left, place = self._generation, self._left, object()
        queue = self._waiting.setdefault(server, [])
        queue.append(place)

        def has_turn() -> bool:
            return generation != self._generation or self._has_room(server, queue.index(place))

        try:
            left.wait_for(has_turn, patience)
            return self._entered(server, part, queue.index(place))
        finally:
            queue.remove(place)
            if not queue and self._waiting.get(server) is queue:
                del self._waiting[server]
            # Whoever stands behind may have a turn now.
            left.notify_all()

    def _has_room(self, server: str, ahead: int) -> bool:
        return len(self._calls.get(server, ())) + ahead < self._concurrent

    def _entered(self, server: str, part: str, ahead: int) -> Passage | Unavailable | None:
        """Return a passage, or that the circuit is open; ``None`` where it is not this call's turn.

        :param ahead: how many wait before it.
        """
        now = self._clock()
        circuit = self._circuits.get((server, part))
        if circuit is not None and circuit.opened is not None and (circuit.probing or now < circuit.until):
            return _open(circuit, now)
        if not self._has_room(server, ahead):
            return None
        if circuit is None:
            circuit = self._remember(_Circuit(server, part, generation=self._generation))
        circuit.calls += 1
        circuit.probing = circuit.opened is not None
        passage = Passage(self, circuit, began=now, probe=circuit.probing)
        self._calls[server].add(passage)
        return passage

    def _may_wait(self, server: str) -> bool:
        now = self._clock()
        oldest = min((passage.began for passage in self._calls.get(server, ())), default=now)
        waiting = len(self._waiting.get(server, ()))
        return waiting < max(1, self._concurrent // 2) and now - oldest < YOUNG

    def clear(self) -> None:
        """Begin anew: every circuit is closed, and calls under way are not heard any more."""
        with self._lock:
            self._left.notify_all()
            self.after_fork()

    def before_fork(self) -> None:
        """Keep everything: the parent's calls go on."""

    def after_fork(self) -> None:
        """Begin anew: the calls of the parent's threads never end here."""
        self._generation += 1
        self._begin()

    def _begin(self) -> None:
        self._circuits: dict[tuple[str, str], _Circuit] = {}
        self._calls: defaultdict[str, set[Passage]] = defaultdict(set)
        self._waiting: dict[str, list[object]] = {}
        self._left = Condition(self._lock)

    def _remember(self, circuit: _Circuit) -> _Circuit:
        if len(self._circuits) >= MAX_CIRCUITS:
            oldest = next((key for key, known in self._circuits.items() if not known.calls), None)
            if oldest is not None:
                del self._circuits[oldest]
        self._circuits[circuit.server, circuit.part] = circuit
        return circuit

    def _leave(self, passage: Passage) -> None:
        circuit = passage._circuit
        with self._lock:
            if circuit.generation != self._generation:
                return
            calls = self._calls[circuit.server]
            calls.discard(passage)
            if not calls:
                del self._calls[circuit.server]
            self._left.notify_all()
            circuit.calls -= 1
            if passage.probe:
                circuit.probing = False
            tell = self._settle(circuit, passage) if passage._epoch == circuit.epoch else None
            if circuit.idle:
                del self._circuits[circuit.server, circuit.part]
        if tell is not None:
            # A handler may be slow: not while others wait for the lock.
            tell()

    def _settle(self, circuit: _Circuit, passage: Passage) -> Callable[[], None] | None:
        """Take a call's end into account; return what is to be told of it."""
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
    tell(
        Event.CIRCUIT_OPENED,
        sentence=f"{_name(circuit)} does not answer: {FAILURES} calls in a row have failed, the last: {circuit.why}. "
        f"Its users get 503 at once, and every {FIRST_PAUSE:.0f} to {LONGEST_PAUSE:.0f} seconds one request tries it. "
        "Look at that server and the way to it; nothing needs a restart here.",
        upstream=circuit.server,
        part=circuit.part,
        detail=circuit.why,
    )


def _tell_closed(circuit: _Circuit, seconds: float) -> None:
    tell(
        Event.CIRCUIT_CLOSED,
        sentence=f"{_name(circuit)} answers again, after {seconds:.0f} seconds: it is asked as usual. "
        "Nothing needs to be done.",
        upstream=circuit.server,
        part=circuit.part,
        elapsed=round(seconds, 1),
    )
