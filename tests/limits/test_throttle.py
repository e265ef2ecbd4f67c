"""The throttle's limits: exact during a parallel burst, and every slot returned only once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.config.settings import ThrottleSettings
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.limits import BeginLimit, FailureLimit, FailureThrottle, LocalLedger
from flask_genesys_auth.limits.throttle import KNOWN_ADDRESS_TTL, PAUSE, KnownAddresses, Limit, Reservation
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.sql import SqlState

from ..forking import FORKS, holds_in_child
from ..state.contract import Clock

HERE, THERE = "192.0.2.1", "198.51.100.7"
Ask = Callable[[], "Reservation | Unavailable"]
COUNTED = {
    "account": ThrottleSettings().per_account,
    "anywhere": ThrottleSettings().per_account_anywhere,
    "address": "1000000 per minute",
}
"""The limits of a throttle that lets one address fail as often as it likes, as its ledger names them."""


class CountingState(MemoryState):
    """A state that counts how often something is put into it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("one", clock=clock)
        self.puts = 0

    def put(self, key: str, value: Any, ttl: float, *, index: Any = ()) -> None:
        self.puts += 1
        super().put(key, value, ttl, index=index)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> MemoryState:
    return MemoryState("one", clock=clock)


def make(clock: Clock, state: StateStore, **limits: Any) -> FailureThrottle:
    return FailureThrottle(ThrottleSettings(**limits), state, clock=clock)


def taken(answer: Reservation | Unavailable) -> Reservation:
    assert not isinstance(answer, Unavailable)
    return answer


def refused(answer: Reservation | Unavailable | None) -> Unavailable:
    assert isinstance(answer, Unavailable)
    assert answer.reason is Reason.THROTTLED
    assert answer.retry_after >= 1
    return answer


def passed(ask: Ask, attempts: int) -> int:
    return sum(not isinstance(ask(), Unavailable) for _ in range(attempts))


def from_(addresses: int) -> Iterator[str]:
    for number in range(addresses):
        yield f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def test_account_has_ten_failures_per_address(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    assert throttle.over_limit("acme", "ann", HERE) is None
    for _ in range(10):
        assert throttle.over_limit("acme", "ann", HERE) is None
        taken(throttle.reserve("acme", "ann", HERE))
        clock.advance(1)
    assert refused(throttle.reserve("acme", "ann", HERE)).retry_after == 290
    assert refused(throttle.over_limit("acme", "ann", HERE)).retry_after == 290
    clock.advance(289)
    refused(throttle.reserve("acme", "ann", HERE))
    clock.advance(1.1)
    taken(throttle.reserve("acme", "ann", HERE))
    refused(throttle.reserve("acme", "ann", HERE))


@pytest.mark.parametrize(
    "other", [("acme", "bob", HERE), ("acme", "ann", THERE), ("globex", "ann", HERE), ("acme", "ann2", HERE)]
)
def test_other_keys_are_not_throttled(clock: Clock, state: MemoryState, other: tuple[str, str, str]) -> None:
    throttle = make(clock, state)
    assert passed(lambda: throttle.reserve("acme", "ann", HERE), 20) == 10
    refused(throttle.over_limit("acme", "ann", HERE))
    assert throttle.over_limit(*other) is None
    taken(throttle.reserve(*other))


LOOSELY_ANN = ["ann", "\u00e1nn", "a\u0301nn", "\uff41nn", " ann", "ann "]
"""Spellings, folded exactly, that directories and databases may read as one name."""


def test_spellings_share_the_limit_per_address(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account="5 per 5 minutes")
    for name in LOOSELY_ANN[:5]:
        taken(throttle.reserve("acme", name, HERE))
    refused(throttle.reserve("acme", LOOSELY_ANN[5], HERE))
    for name in LOOSELY_ANN:
        refused(throttle.over_limit("acme", name, HERE))
        refused(throttle.look("acme", name, HERE))
    # Another name, and the same at another address, have their own.
    taken(throttle.reserve("acme", "anne", HERE))
    taken(throttle.reserve("acme", "ann", THERE))
    assert throttle.over_limit("acme", "ann", THERE) is None


def test_spellings_share_the_limit_anywhere(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account_anywhere="6 per hour")
    for name, address in zip(LOOSELY_ANN, from_(6), strict=True):
        taken(throttle.reserve("acme", name, address))
    for name in LOOSELY_ANN:
        refused(throttle.reserve("acme", name, HERE))
    taken(throttle.reserve("acme", "anne", HERE))


def test_known_addresses_belong_to_the_exact_name(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account_anywhere="6 per hour")
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    taken(throttle.reserve("acme", "\u00e1nn", THERE)).succeeded()
    for address in from_(6):
        taken(throttle.reserve("acme", "\u00e1nn", address))
    # Each user is admitted at their own known address and throttled at the other user's.
    taken(throttle.reserve("acme", "ann", HERE))
    taken(throttle.reserve("acme", "\u00e1nn", THERE))
    refused(throttle.reserve("acme", "ann", THERE))
    refused(throttle.reserve("acme", "\u00e1nn", HERE))


def test_begun_logins_per_address_are_bounded(clock: Clock) -> None:
    limit = BeginLimit("2 per hour", LocalLedger(clock), least="6 per minute")
    assert [limit.take("2001:db8::1") for _ in range(6)] == [None] * 6
    over = refused(limit.take("2001:db8::2"))
    assert over.retry_after == 60
    assert over.detail == "over the limit of 6 logins begun in 60 s by one address"
    assert limit.take("2001:db8:0:1::1") is None
    clock.advance(60.1)
    assert limit.take("2001:db8::1") is None


@pytest.mark.parametrize(
    ("per_address", "begun"),
    [("300 per minute", 3000), ("301 per minute", 3010), ("0 per day", 3000), ("10000 per hour", 3000)],
)
def test_begin_limit_grows_with_per_address(clock: Clock, per_address: str, begun: int) -> None:
    limit = BeginLimit(per_address, LocalLedger(clock))
    assert [limit.take(HERE) is None for _ in range(begun + 1)] == [True] * begun + [False]


def test_begin_limit_passes_without_its_ledger() -> None:
    class Down(LocalLedger):
        def reserve(self, wanted: Any) -> Any:
            return Unavailable(Reason.THROTTLE_UNAVAILABLE)

    assert BeginLimit("1 per hour", Down(), least="0 per hour").take(HERE) is None


def test_name_and_contact_center_are_separate_parts(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    assert passed(lambda: throttle.reserve("ab", "c", HERE), 20) == 10
    assert throttle.over_limit("a", "bc", HERE) is None
    taken(throttle.reserve("a", "bc", HERE))


@pytest.mark.parametrize("way", ["succeeded", "void"])
def test_returned_slot_is_free_only_once(clock: Clock, state: MemoryState, way: str) -> None:
    throttle = make(clock, state)
    slots = [taken(throttle.reserve("acme", "ann", HERE)) for _ in range(10)]
    refused(throttle.reserve("acme", "ann", HERE))
    for _ in range(3):
        getattr(slots[4], way)()
        slots[4].void()
        slots[4].succeeded()
    assert passed(lambda: throttle.reserve("acme", "ann", HERE), 5) == 1


def test_good_logins_are_never_throttled(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    for _ in range(1000):
        taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    assert throttle.over_limit("acme", "ann", HERE) is None


def test_success_keeps_earlier_failures(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    for _ in range(9):
        taken(throttle.reserve("acme", "ann", HERE))
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    taken(throttle.reserve("acme", "ann", HERE))
    refused(throttle.reserve("acme", "ann", HERE))


def test_slot_returned_late_gives_no_extra_guess(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    old = [taken(throttle.reserve("acme", "ann", HERE)) for _ in range(10)]
    clock.advance(301)
    assert passed(lambda: throttle.reserve("acme", "ann", HERE), 20) == 10
    for slot in old:
        slot.void()
    refused(throttle.reserve("acme", "ann", HERE))
    refused(throttle.over_limit("acme", "ann", HERE))


def test_no_five_minutes_have_more_than_ten_failures(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    moments = []
    began = clock()
    while clock() < began + 3000:
        if not isinstance(throttle.reserve("acme", "ann", HERE), Unavailable):
            moments.append(clock())
        clock.advance(7)
    worst = max(sum(start <= moment < start + 300 for moment in moments) for start in moments)
    assert worst == 10


@pytest.mark.parametrize("what", ["account", "address", "directory"])
def test_parallel_burst_gets_exactly_the_limit(clock: Clock, state: MemoryState, what: str) -> None:
    throttle = make(clock, state, per_address="30 per minute")
    limit = FailureLimit("2 per 15 minutes", clock=clock)
    asks: dict[str, tuple[Callable[[str], Reservation | Unavailable], int]] = {
        "account": (lambda _: throttle.reserve("acme", "ann", HERE), 10),
        "address": (lambda name: throttle.reserve("acme", name, HERE), 30),
        "directory": (lambda _: limit.reserve("ann"), 2),
    }
    ask, expected = asks[what]
    barrier = threading.Barrier(100)
    answers: list[Any] = []

    def guess(number: int) -> None:
        barrier.wait()
        answers.append(ask(str(number)))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(answer, Unavailable) for answer in answers) == expected
    assert len(answers) == 100


def test_all_slots_are_taken_or_none(clock: Clock, state: MemoryState) -> None:
    throttle = make(
        clock, state, per_account="1 per 5 minutes", per_account_anywhere="2 per hour", per_address="3 per day"
    )
    taken(throttle.reserve("acme", "ann", HERE))
    for _ in range(50):
        refused(throttle.reserve("acme", "ann", HERE))  # takes none of the other two limits
    taken(throttle.reserve("acme", "ann", THERE))
    taken(throttle.reserve("acme", "bob", HERE))
    taken(throttle.reserve("acme", "cy", HERE))
    assert refused(throttle.reserve("acme", "dee", HERE)).retry_after == 86400
    assert refused(throttle.reserve("acme", "ann", "203.0.113.1")).retry_after == 3600
    taken(throttle.reserve("acme", "dee", THERE))


def test_longest_wait_is_returned(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account="1 per minute", per_address="1 per hour")
    taken(throttle.reserve("acme", "ann", HERE))
    assert refused(throttle.reserve("acme", "ann", HERE)).retry_after == 3600
    assert refused(throttle.over_limit("acme", "ann", HERE)).retry_after == 60
    clock.advance(59.99)
    assert refused(throttle.over_limit("acme", "ann", HERE)).retry_after == 1


def test_address_limit_spans_all_names(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    names = iter(range(1000))
    assert passed(lambda: throttle.reserve("acme", str(next(names)) if next(names) % 2 else "", HERE), 400) == 300
    refused(throttle.reserve("acme", "", HERE))
    assert throttle.over_limit("acme", "", HERE) is None
    taken(throttle.reserve("acme", "", THERE))
    clock.advance(60)
    taken(throttle.reserve("acme", "ann", HERE))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:DB8:1:2::1", "2001:0db8:0001:0002::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("unix:", "192.0.2.1", False),
        ("192.0.2.1:40001", "192.0.2.1:40002", True),
        ("192.0.2.1:40001", "::ffff:192.0.2.1", True),
        ("[2001:db8:1:2::1]:40001", "[2001:db8:1:2::9]:40002", True),
        ("[2001:db8:1:2::1]:40001", "2001:db8:1:2::1", True),
        ("[2001:db8:1:2::1]:40001", "[2001:db8:1:3::1]:40001", False),
        ("", "unknown", True),
        ("unix:", "192.0.2.1:http", True),
    ],
)
def test_spellings_of_one_address_count_together(
    clock: Clock, state: MemoryState, one: str, other: str, same: bool
) -> None:
    throttle = make(clock, state, per_address="1 per minute", per_account="1 per minute")
    taken(throttle.reserve("acme", "ann", one))
    assert isinstance(throttle.reserve("acme", "", other), Unavailable) is same
    assert isinstance(throttle.over_limit("acme", "ann", other), Unavailable) is same


def test_limit_anywhere_ends_at_fifty(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    addresses = from_(1000)
    assert passed(lambda: throttle.reserve("acme", "ann", next(addresses)), 1000) == 50
    assert throttle.over_limit("acme", "ann", HERE) is None, "what is remembered is a matter of its own address"
    taken(throttle.reserve("acme", "bob", HERE))


def test_guesses_elsewhere_do_not_block_known_addresses(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state)
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    for address in from_(1000):
        throttle.reserve("acme", "ann", address)
    refused(throttle.reserve("acme", "ann", THERE))
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    assert passed(lambda: throttle.reserve("acme", "ann", HERE), 20) == 10, "the limit at the address itself stays"
    refused(throttle.reserve("acme", "ann", HERE))
    taken(throttle.reserve("acme", "bob", THERE)).succeeded()
    refused(throttle.reserve("acme", "ann", THERE))


def test_only_a_good_login_makes_an_address_known(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account_anywhere="3 per hour")
    slot = taken(throttle.reserve("acme", "ann", HERE))
    slot.void()
    slot.succeeded()
    for _ in range(3):
        taken(throttle.reserve("acme", "ann", HERE))
    refused(throttle.reserve("acme", "ann", HERE))
    assert len(state) == 0


def test_known_address_expires_after_30_days(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account_anywhere="1 per hour")
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    clock.advance(KNOWN_ADDRESS_TTL - 1)
    taken(throttle.reserve("acme", "ann", THERE))
    taken(throttle.reserve("acme", "ann", HERE)).void()
    clock.advance(2)
    refused(throttle.reserve("acme", "ann", HERE))


def test_known_address_is_written_once_a_day(clock: Clock) -> None:
    writes: list[str] = []

    class Counting(MemoryState):
        def put(self, key: str, value: Any, ttl: float, *, index: Any = ()) -> None:
            writes.append(key)
            super().put(key, value, ttl, index=index)

    state = Counting("one", clock=clock)
    throttle = make(clock, state, per_account_anywhere="1 per hour")
    for _ in range(40 * 24):
        taken(throttle.reserve("acme", "ann", HERE)).succeeded()
        clock.advance(3600)
    assert 39 <= len(writes) <= 41
    assert len(set(writes)) == 1
    assert "ann" not in writes[0]
    taken(throttle.reserve("acme", "ann", THERE))
    taken(throttle.reserve("acme", "ann", HERE))


def test_failed_state_is_not_asked_during_the_pause(clock: Clock) -> None:
    class Ill(MemoryState):
        ill = True
        asked = 0

        def put(self, key: str, value: Any, ttl: float, *, index: Any = ()) -> None:
            self._answer()
            super().put(key, value, ttl, index=index)

        def get(self, key: str) -> Any:
            self._answer()
            return super().get(key)

        def _answer(self) -> None:
            self.asked += 1
            if self.ill:
                raise StateUnavailable("it hangs")

    state = Ill("one", clock=clock)
    throttle = make(clock, state, per_account_anywhere="1 per hour")
    for name in ("ann", "bob", "eve"):
        taken(throttle.reserve("acme", name, HERE)).succeeded()
    assert state.asked == 1
    clock.advance(PAUSE)
    taken(throttle.reserve("acme", "ann", THERE))
    for _ in range(3):
        refused(throttle.reserve("acme", "ann", HERE))
    assert state.asked == 2
    state.ill = False
    clock.advance(PAUSE)
    taken(throttle.reserve("acme", "bob", HERE)).succeeded()
    assert state.asked == 3
    taken(throttle.reserve("acme", "bob", THERE))
    taken(throttle.reserve("acme", "bob", HERE))


def test_unreadable_addresses_are_never_known(clock: Clock, state: MemoryState) -> None:
    throttle = make(clock, state, per_account_anywhere="3 per hour")
    for address in ("", "unknown", "unix:"):
        taken(throttle.reserve("acme", "ann", address)).succeeded()
    assert len(state) == 0
    # An earlier version noted such an address.
    KnownAddresses(state, clock).note("acme", "ann", "")
    taken(throttle.reserve("acme", "ann", HERE)).succeeded()
    for address in from_(3):
        taken(throttle.reserve("acme", "ann", address))
    for address in ("", "unknown"):
        refused(throttle.reserve("acme", "ann", address))
        refused(throttle.look("acme", "ann", address))
    taken(throttle.reserve("acme", "ann", f"{HERE}:40001"))


def test_noted_addresses_are_bounded(clock: Clock) -> None:
    state = CountingState(clock)
    known = KnownAddresses(state, clock, max_noted=10)
    addresses = list(from_(100))
    for address in addresses:
        known.note("acme", "ann", address)
    assert state.puts == len(state) == 100
    for address in addresses[90:]:
        known.note("acme", "ann", address)
    assert state.puts == 100
    known.note("acme", "ann", addresses[89])  # which had to go for the last ten, so that it is written once more
    assert state.puts == 101


def test_state_is_read_only_if_it_can_decide(clock: Clock) -> None:
    reads: list[str] = []

    class Counting(MemoryState):
        def get(self, key: str) -> Any:
            reads.append(key)
            return super().get(key)

    throttle = make(clock, Counting("one", clock=clock), per_account="5 per minute", per_account_anywhere="10 per hour")
    assert passed(lambda: throttle.reserve("acme", "ann", HERE), 8) == 5
    assert passed(lambda: throttle.reserve("acme", "ann", THERE), 8) == 5
    assert reads == []
    refused(throttle.reserve("acme", "ann", "203.0.113.1"))
    assert len(reads) == 1
    refused(throttle.reserve("acme", "ann", HERE))
    assert len(reads) == 1


def test_failed_state_knows_no_address(tmp_path: Path, clock: Clock) -> None:
    broken = tmp_path / "file"
    broken.write_text("no folder")
    with closing(SqlState(f"sqlite:///{broken / 'state'}", "one", 0.01)) as state:
        with pytest.raises(StateUnavailable):
            state.get("key")
        throttle = make(clock, state, per_account_anywhere="2 per hour")
        taken(throttle.reserve("acme", "ann", HERE)).succeeded()
        for _ in range(2):
            taken(throttle.reserve("acme", "ann", HERE))
        refused(throttle.reserve("acme", "ann", HERE))
        taken(throttle.reserve("acme", "bob", HERE))
        broken.unlink()
        clock.advance(PAUSE)
        taken(throttle.reserve("acme", "bob", HERE)).succeeded()
        for _ in range(2):
            throttle.reserve("acme", "bob", THERE)
        taken(throttle.reserve("acme", "bob", HERE))


def test_namespaces_have_their_own_known_addresses(clock: Clock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state'}"
    with closing(SqlState(url, "one", 5)) as one, closing(SqlState(url, "two", 5)) as two:
        throttles = [make(clock, state, per_account_anywhere="1 per hour") for state in (one, two)]
        taken(throttles[0].reserve("acme", "ann", HERE)).succeeded()
        for throttle in throttles:
            taken(throttle.reserve("acme", "ann", THERE))
        taken(throttles[0].reserve("acme", "ann", HERE))
        refused(throttles[1].reserve("acme", "ann", HERE))


def test_flood_of_names_keeps_full_keys(clock: Clock, state: MemoryState) -> None:
    ledger = LocalLedger(clock, max_keys=200)
    throttle = FailureThrottle(ThrottleSettings(per_address="1000000 per minute"), state, ledger)
    for _ in range(10):
        taken(throttle.reserve("acme", "ann", HERE))
    for number in range(20_000):
        throttle.reserve("acme", f"name-{number}" * 10, HERE)
    refused(throttle.over_limit("acme", "ann", HERE))
    refused(throttle.reserve("acme", "ann", HERE))
    limits = [Limit.of(name, notation) for name, notation in COUNTED.items()]
    assert [ledger.count(limit) for limit in limits] == [200, 200, 1]


def test_expired_keys_are_removed_on_insert(clock: Clock, state: MemoryState) -> None:
    ledger = LocalLedger(clock)
    throttle = FailureThrottle(ThrottleSettings(per_address="1000000 per minute"), state, ledger)
    for number in range(1000):
        throttle.reserve("acme", str(number), HERE)
    clock.advance(901)
    throttle.reserve("acme", "ann", HERE)
    account, anywhere, _ = (Limit.of(name, notation) for name, notation in COUNTED.items())
    assert ledger.count(account) == ledger.count(anywhere) == 1


def test_directory_limit_is_per_key(clock: Clock) -> None:
    limit = FailureLimit("2 per 15 minutes", clock=clock)
    first = taken(limit.reserve("acme/ann"))
    taken(limit.reserve("acme/ann"))
    assert refused(limit.reserve("acme/ann")).retry_after == 900
    taken(limit.reserve("acme/bob"))
    first.succeeded()
    first.void()
    taken(limit.reserve("acme/ann"))
    refused(limit.reserve("acme/ann"))


def test_limit_of_zero_refuses_everything(clock: Clock) -> None:
    assert refused(FailureLimit("0 per minute", clock=clock).reserve("ann")).retry_after == 60


def test_invalid_limit_notation_is_an_error(state: MemoryState) -> None:
    with pytest.raises(ValueError, match="often"):
        FailureLimit("often")
    with pytest.raises(ValueError, match="now and then"):
        FailureThrottle(ThrottleSettings(per_address="now and then"), state)


def test_default_clock_runs() -> None:
    limit = FailureLimit("1 per hour")
    taken(limit.reserve("ann"))
    assert 3590 <= refused(limit.reserve("ann")).retry_after <= 3600


def test_throttle_starts_no_thread(state: MemoryState) -> None:
    before = set(threading.enumerate())
    throttle = FailureThrottle(ThrottleSettings(), state)
    taken(throttle.reserve("acme", "ann", HERE))
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("fork", FORKS)
def test_forked_worker_counts_from_zero(clock: Clock, fork: str) -> None:
    limit = FailureLimit("2 per hour", clock=clock)
    slot = taken(limit.reserve("ann"))

    def counts_anew() -> bool:
        slot.void()
        return passed(lambda: limit.reserve("ann"), 5) == 2

    assert holds_in_child(counts_anew, fork=fork)
    assert passed(lambda: limit.reserve("ann"), 5) == 1


@pytest.mark.parametrize("fork", FORKS)
def test_forked_worker_inherits_no_lock(state: MemoryState, fork: str) -> None:
    within, go_on = threading.Event(), threading.Event()

    def clock() -> float:
        # The ledger asks its clock within its lock.
        if threading.current_thread() is worker:
            within.set()
            go_on.wait()
        return 0.0

    throttle = FailureThrottle(ThrottleSettings(), state, clock=clock)
    worker = threading.Thread(target=lambda: throttle.reserve("acme", "ann", HERE))
    worker.start()
    assert within.wait(20)
    assert holds_in_child(lambda: passed(lambda: throttle.reserve("acme", "ann", HERE), 11) == 10, fork=fork)
    go_on.set()
    worker.join()


@pytest.mark.parametrize("fork", FORKS)
def test_forked_worker_notes_its_own_addresses(clock: Clock, fork: str) -> None:
    state = CountingState(clock)
    known = KnownAddresses(state, clock)
    known.note("acme", "ann", HERE)
    known.note("acme", "ann", HERE)
    assert state.puts == 1

    def notes_again() -> bool:
        known.note("acme", "ann", HERE)
        return state.puts == 2

    assert holds_in_child(notes_again, fork=fork)
    known.note("acme", "ann", HERE)
    assert state.puts == 1


class LimitAndModel(RuleBasedStateMachine):
    """A limit of three against a list of the moments at which slots were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limit = FailureLimit("3 per minute", clock=self.clock)
        self.slots: list[tuple[float, Reservation]] = []
        self.returned: set[int] = set()

    def living(self) -> list[float]:
        return [
            moment
            for moment, slot in self.slots
            if id(slot) not in self.returned and moment + 60 > self.clock() + 0.001
        ]

    @rule()
    def reserve(self) -> None:
        answer = self.limit.reserve("ann")
        if len(self.living()) < 3:
            self.slots.append((self.clock(), taken(answer)))
        else:
            wait = self.living()[-3] + 60 - self.clock()
            assert wait - 0.01 <= refused(answer).retry_after <= wait + 1.01

    @rule(pick=st.integers(0, 30), good=st.booleans())
    def give_back(self, pick: int, good: bool) -> None:
        if self.slots:
            slot = self.slots[pick % len(self.slots)][1]
            slot.succeeded() if good else slot.void()
            self.returned.add(id(slot))

    @rule(seconds=st.sampled_from([1, 20, 59, 61]))
    def wait(self, seconds: int) -> None:
        # Never quite to a slot's end: moments are told apart by less than this.
        self.clock.advance(seconds + 0.125)

    @invariant()
    def never_more_than_three_live(self) -> None:
        assert len(self.living()) <= 3


TestLimitAndModel = LimitAndModel.TestCase
TestLimitAndModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
