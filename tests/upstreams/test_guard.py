"""The bulkhead and the circuit breaker alone, with a clock that the tests set."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.upstream import Guard, Passage
from flask_genesys_auth.upstream.breaker import FAILURES, FIRST_PAUSE, JITTER, LONGEST_PAUSE, SLOW_CALL

SERVER = "https://one.example:443"
OTHER = "https://other.example:443"
LONG = 60.0
LEAST, MOST = 1 - JITTER, 1 + JITTER


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(concurrent=3, clock=clock)


def entered(outcome: Passage | Unavailable) -> Passage:
    assert isinstance(outcome, Passage), outcome
    return outcome


def refused(outcome: Passage | Unavailable, reason: Reason = Reason.CIRCUIT_OPEN) -> Unavailable:
    assert isinstance(outcome, Unavailable)
    assert (outcome.reason, outcome.uncounted) == (reason, True)
    return outcome


def fail(guard: Guard, times: int = 1, server: str = SERVER, part: str = "", why: str = "it is down") -> None:
    for _ in range(times):
        with entered(guard.enter(server, part)) as passage:
            passage.failed(why)


def answer(guard: Guard, server: str = SERVER, part: str = "") -> None:
    with entered(guard.enter(server, part)) as passage:
        passage.answered()


def test_consecutive_failures_open_the_circuit(guard: Guard) -> None:
    fail(guard, FAILURES - 1)
    answer(guard)
    fail(guard, FAILURES - 1)
    with entered(guard.enter(SERVER)):
        pass  # says nothing: it neither counts nor forgives
    fail(guard)
    found = refused(guard.enter(SERVER))
    assert found.detail == f"{SERVER} is not called: 5 consecutive calls have failed, the last: it is down"
    assert FIRST_PAUSE * LEAST <= found.retry_after <= FIRST_PAUSE * MOST + 1


def test_circuits_belong_to_server_and_part(guard: Guard) -> None:
    fail(guard, FAILURES, part="tenant")
    assert "(tenant)" in refused(guard.enter(SERVER, "tenant")).detail
    answer(guard)
    answer(guard, part="another")
    answer(guard, OTHER, "tenant")


def test_call_fails_if_any_part_fails(guard: Guard) -> None:
    for _ in range(FAILURES):
        with entered(guard.enter(SERVER)) as passage:
            passage.answered()
            passage.failed("the second half")
            passage.answered()
    assert "the second half" in refused(guard.enter(SERVER)).detail


def test_half_open_circuit_lets_one_call_through(guard: Guard, clock: Clock) -> None:
    fail(guard, FAILURES)
    clock.now += FIRST_PAUSE * LEAST - 0.01
    refused(guard.enter(SERVER))
    clock.now += FIRST_PAUSE * (MOST - LEAST) + 0.02
    probe = entered(guard.enter(SERVER))
    assert probe.probe
    assert refused(guard.enter(SERVER)).retry_after == 1
    with probe:
        probe.answered()
    for _ in range(FAILURES - 1):
        fail(guard)
    answer(guard)


@pytest.mark.parametrize("busy", [False, True])
def test_pauses_grow_to_a_limit(guard: Guard, clock: Clock, busy: bool) -> None:
    if busy:
        entered(guard.enter(SERVER))
    fail(guard, FAILURES)
    for pause in (5.0, 10.0, 20.0, LONGEST_PAUSE, LONGEST_PAUSE):
        clock.now += pause * LEAST - 0.01
        refused(guard.enter(SERVER))
        clock.now += pause * (MOST - LEAST) + 0.02
        fail(guard)
    clock.now += LONGEST_PAUSE * MOST
    answer(guard)
    fail(guard, FAILURES)
    clock.now += FIRST_PAUSE * MOST
    fail(guard)
    clock.now += 2 * FIRST_PAUSE * MOST
    answer(guard)


def test_pauses_differ_between_processes(clock: Clock) -> None:
    guards = [Guard(clock=clock) for _ in range(20)]
    for guard in guards:
        fail(guard, FAILURES)
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE):
        opened, waiting, tried_at = clock.now, set(guards), set()
        while waiting:
            clock.now += pause * JITTER / 10
            assert clock.now <= opened + pause * (MOST + JITTER / 10)
            for guard in list(waiting):
                outcome = guard.enter(SERVER)
                if isinstance(outcome, Passage):
                    with outcome:
                        outcome.failed("still down")
                    waiting.remove(guard)
                    tried_at.add(clock.now)
        assert len(tried_at) > 1
        # The second pauses began at different times; to compare them they are begun anew at one.
        clock.now += 2 * LONGEST_PAUSE
        for guard in guards:
            answer(guard)
            fail(guard, FAILURES)
        clock.now += FIRST_PAUSE * MOST
        for guard in guards:
            fail(guard)


def test_half_open_call_is_released_after_any_end(guard: Guard, clock: Clock) -> None:
    fail(guard, FAILURES)
    clock.now += FIRST_PAUSE * MOST

    def break_off(error: type[BaseException]) -> None:
        with entered(guard.enter(SERVER)):
            refused(guard.enter(SERVER))
            raise error

    for error in (RuntimeError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error):
            break_off(error)
    with entered(guard.enter(SERVER)):
        pass
    answer(guard)
    answer(guard)


def test_older_call_does_not_change_the_circuit(guard: Guard, clock: Clock) -> None:
    early, late = entered(guard.enter(SERVER)), entered(guard.enter(SERVER))
    fail(guard, FAILURES)
    with early:
        early.answered()
    refused(guard.enter(SERVER))
    clock.now += FIRST_PAUSE * MOST
    answer(guard)
    fail(guard, FAILURES - 1)
    with late:
        late.failed("long ago")
    answer(guard)


def test_concurrent_calls_are_limited_per_server(guard: Guard) -> None:
    under_way = [entered(guard.enter(SERVER, part)) for part in ("", "one", "two")]
    for part in ("", "three"):
        found = refused(guard.enter(SERVER, part), Reason.UPSTREAM_BUSY)
        assert (found.retry_after, found.detail) == (1, f"{SERVER} is not called: 3 calls to it are under way")
    answer(guard, OTHER)
    leave(under_way.pop())
    answer(guard)
    leave(*under_way)
    all_are_free(guard, 3)


def test_excess_call_waits_for_its_turn(clock: Clock) -> None:
    guard = Guard(concurrent=2, max_wait=LONG, clock=clock)
    under_way = [entered(guard.enter(SERVER)) for _ in range(2)]
    with ThreadPoolExecutor() as others:
        waiting = others.submit(guard.enter, SERVER)
        until_so_many_wait(guard, 1)
        # The queue is half as long as the bound: further calls are refused at once.
        refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
        assert not waiting.done()
        with under_way[0]:
            under_way[0].answered()
        with entered(waiting.result(LONG)), under_way[1]:
            pass
    all_are_free(guard, 2)


def test_hung_server_refuses_waiting_calls(clock: Clock) -> None:
    guard = Guard(concurrent=2, max_wait=LONG, clock=clock)
    first = entered(guard.enter(SERVER))
    clock.now += SLOW_CALL
    with entered(guard.enter(SERVER)):
        refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
    leave(first)
    answer(guard)


def test_wait_without_a_turn_ends_busy(clock: Clock) -> None:
    guard = Guard(concurrent=1, max_wait=0.05, clock=clock)
    with entered(guard.enter(SERVER)):
        began = time.monotonic()
        refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
        assert time.monotonic() - began >= 0.05
    answer(guard)


def test_waiting_call_learns_of_an_open_circuit(clock: Clock) -> None:
    guard = Guard(concurrent=1, max_wait=LONG, clock=clock)
    fail(guard, FAILURES - 1)
    last = entered(guard.enter(SERVER))
    with ThreadPoolExecutor() as others:
        waiting = others.submit(guard.enter, SERVER)
        until_so_many_wait(guard, 1)
        with last:
            last.failed("it is down")
        refused(waiting.result(LONG))
    clock.now += FIRST_PAUSE * MOST
    answer(guard)
    all_are_free(guard, 1)


def test_wait_takes_at_most_half_the_time(clock: Clock) -> None:
    guard = Guard(concurrent=1, max_wait=LONG, clock=clock)
    with entered(guard.enter(SERVER)):
        began = time.monotonic()
        refused(guard.enter(SERVER, within=0.1), Reason.UPSTREAM_BUSY)
        assert 0.05 <= time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("concurrent", [1, 2, 4, 6])
def test_later_caller_does_not_overtake(clock: Clock, concurrent: int) -> None:
    guard = Guard(concurrent=concurrent, max_wait=LONG, clock=clock)
    under_way = [entered(guard.enter(SERVER)) for _ in range(concurrent)]
    with ThreadPoolExecutor() as others:
        waiting = others.submit(guard.enter, SERVER)
        until_so_many_wait(guard, 1)
        leave(under_way.pop())
        # Whether or not the one that waits has noticed by now: this one has no turn, and little time to get one.
        refused(guard.enter(SERVER, within=0.1), Reason.UPSTREAM_BUSY)
        under_way.append(entered(waiting.result(LONG)))
    leave(*under_way)
    all_are_free(guard, concurrent)


def test_caller_behind_an_abandoned_wait_gets_its_turn(clock: Clock) -> None:
    guard = Guard(concurrent=4, max_wait=LONG, clock=clock)
    under_way = [entered(guard.enter(SERVER)) for _ in range(4)]
    with ThreadPoolExecutor() as others:
        hasty = others.submit(guard.enter, SERVER, within=4)
        until_so_many_wait(guard, 1)
        patient = others.submit(guard.enter, SERVER)
        until_so_many_wait(guard, 2)
        refused(hasty.result(LONG), Reason.UPSTREAM_BUSY)
        assert not patient.done()
        leave(under_way.pop())
        under_way.append(entered(patient.result(LONG)))
    leave(*under_way)
    all_are_free(guard, 4)


def test_waiting_caller_goes_on_after_clear(clock: Clock) -> None:
    guard = Guard(concurrent=1, max_wait=LONG, clock=clock)
    forgotten = entered(guard.enter(SERVER))
    with ThreadPoolExecutor() as others:
        waiting = others.submit(guard.enter, SERVER)
        until_so_many_wait(guard, 1)
        guard.clear()
        with entered(waiting.result(LONG)), forgotten:
            pass
    all_are_free(guard, 1)


def until_so_many_wait(guard: Guard, number: int) -> None:
    end = time.monotonic() + LONG
    while guard.waiting(SERVER) != number:
        assert time.monotonic() < end
        time.sleep(0.005)


def all_are_free(guard: Guard, number: int) -> None:
    """Assert that no call waits and that exactly so many calls may be under way at once."""
    assert guard.waiting(SERVER) == 0
    under_way = [entered(guard.enter(SERVER)) for _ in range(number)]
    refused(guard.enter(SERVER, within=0), Reason.UPSTREAM_BUSY)
    leave(*under_way)


def leave(*passages: Passage) -> None:
    for passage in passages:
        with passage:
            pass


def test_concurrency_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Guard(concurrent=0)
    answer(Guard(concurrent=1))


def test_full_bulkhead_lets_no_probe_through(clock: Clock) -> None:
    guard = Guard(concurrent=1, clock=clock)
    fail(guard, FAILURES)
    clock.now += FIRST_PAUSE * MOST
    with entered(guard.enter(SERVER, "another")):
        refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
    assert entered(guard.enter(SERVER)).probe


def test_circuits_are_bounded(clock: Clock) -> None:
    guard = Guard(concurrent=3, max_circuits=4, clock=clock)
    with entered(guard.enter("kept")):
        fail(guard, FAILURES, "kept")
        fail(guard, FAILURES, "first")
        for number in range(2):
            fail(guard, server=f"{number}")
        refused(guard.enter("first"))
        fail(guard, server="one more")
        answer(guard, "first")
        refused(guard.enter("kept"))


def test_circuits_with_calls_are_never_evicted(clock: Clock) -> None:
    guard = Guard(concurrent=2, max_circuits=2, clock=clock)
    passages = [entered(guard.enter(str(number))) for number in range(4)]
    for number in range(4):
        fail(guard, FAILURES, str(number))
    for number in range(4):
        refused(guard.enter(str(number)))
    leave(*passages)


def test_opening_and_closing_are_logged_once(guard: Guard, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "flask_genesys_auth")
    fail(guard, FAILURES - 1, part="tenant")
    assert not caplog.records
    fail(guard, part="tenant", why="no connection: Connection refused")
    for _ in range(3):
        refused(guard.enter(SERVER, "tenant"))
        clock.now += LONGEST_PAUSE * MOST
        fail(guard, part="tenant")
    (opened,) = caplog.records
    assert opened.levelno == logging.WARNING
    assert (
        f"{SERVER} (tenant) does not answer: 5 consecutive calls have failed, the last: no connection" in opened.message
    )
    assert "Check that server" in opened.message
    told = opened.__dict__["genesys_auth"]
    assert (told["event"], told["upstream"], told["part"], told["detail"]) == (
        "circuit_opened",
        SERVER,
        "tenant",
        "no connection: Connection refused",
    )
    clock.now += LONGEST_PAUSE * MOST
    answer(guard, part="tenant")
    answer(guard, part="tenant")
    closed = caplog.records[1:]
    assert [record.levelno for record in closed] == [logging.WARNING]
    assert f"{SERVER} (tenant) answers again, after 144 seconds" in closed[0].message
    assert closed[0].__dict__["genesys_auth"]["event"] == "circuit_closed"


def test_slow_log_handler_blocks_no_caller(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            writing.set()
            assert written.wait(60)

    writing, written = threading.Event(), threading.Event()
    handler = Slow()
    logger = logging.getLogger("flask_genesys_auth")
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=fail, args=(guard, FAILURES))
        thread.start()
        assert writing.wait(60)
        refused(guard.enter(SERVER))
        answer(guard, OTHER)
        written.set()
        thread.join()
    finally:
        logger.removeHandler(handler)
