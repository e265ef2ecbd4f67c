"""Cached credentials: unambiguous keys, capacity, expiry, and no secret in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_genesys_auth.chain.outcomes import Authenticated, Identity
from flask_genesys_auth.limits.gate import Result, VerifiedCredentials

from ..forking import FORKS, holds_in_child
from ..reachable import reachable
from ..state.contract import Clock

ANN = ("basic", "acme", "192.0.2.1", "ann", "a secret")
RESULT = Result({"web_services": Authenticated(Identity("web_services", "acme", "ann"))}, "1")
PARTS = st.lists(st.text(max_size=6), min_size=3, max_size=7)


def remember(memory: VerifiedCredentials, *credentials: str, result: Result, seconds: float) -> None:
    """Remember a result whose verification has taken no time."""
    kind, contact_center, address, *secrets = credentials
    memory.put(kind, contact_center, address, *secrets, result=result, seconds=seconds, reading=memory.begin())


def test_cached_result_expires() -> None:
    clock = Clock()
    memory = VerifiedCredentials(clock=clock)
    assert memory.get(*ANN) is None
    remember(memory, *ANN, result=RESULT, seconds=60)
    assert memory.get(*ANN) is RESULT
    clock.advance(59.9)
    assert memory.get(*ANN) is RESULT
    clock.advance(0.1)
    assert memory.get(*ANN) is None


def test_use_does_not_extend_the_lifetime() -> None:
    clock = Clock()
    memory = VerifiedCredentials(clock=clock)
    remember(memory, *ANN, result=RESULT, seconds=60)
    for _ in range(59):
        clock.advance(1)
        assert memory.get(*ANN) is RESULT
    clock.advance(1)
    assert memory.get(*ANN) is None
    assert len(memory) == 0


def test_lifetime_starts_with_the_verification() -> None:
    clock = Clock()
    memory = VerifiedCredentials(clock=clock)
    reading = memory.begin()
    clock.advance(50)
    memory.put(*ANN, result=RESULT, seconds=60, reading=reading)
    assert memory.get(*ANN) is RESULT
    clock.advance(10)
    assert memory.get(*ANN) is None


@pytest.mark.parametrize("forget", [lambda memory: memory.invalidate(*ANN), lambda memory: memory.clear()])
def test_verification_during_invalidation_is_not_cached(
    forget: Callable[[VerifiedCredentials], None],
) -> None:
    memory = VerifiedCredentials()
    reading = memory.begin()
    forget(memory)
    memory.put(*ANN, result=RESULT, seconds=60, reading=reading)
    assert memory.get(*ANN) is None
    remember(memory, *ANN, result=RESULT, seconds=60)
    assert memory.get(*ANN) is RESULT


@pytest.mark.parametrize("position", range(5))
def test_any_other_part_is_another_key(position: int) -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN, result=RESULT, seconds=60)
    other = list(ANN)
    other[position] += "x"
    assert memory.get(*other) is None
    assert memory.get(*ANN[:4]) is None
    assert memory.get(*ANN, "") is None
    assert memory.get(*ANN) is RESULT


@given(PARTS, PARTS)
def test_different_sequences_have_different_keys(one: list[str], other: list[str]) -> None:
    memory = VerifiedCredentials()
    remember(memory, one[0], one[1], one[2], *one[3:], result=RESULT, seconds=60)
    assert (memory.get(other[0], other[1], other[2], *other[3:]) is RESULT) == (one == other)


@pytest.mark.parametrize("mark", ["|", "\0", ":", "\n", "\x01", "1:", ""])
def test_separator_in_a_secret_changes_the_key(mark: str) -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN[:3], f"a{mark}b", "c", result=RESULT, seconds=60)
    assert memory.get(*ANN[:3], "a", f"b{mark}c") is None
    assert memory.get(*ANN[:3], f"a{mark}b{mark}c") is None
    assert memory.get(*ANN[:3], "", f"a{mark}b{mark}c") is None
    assert memory.get(*ANN[:3], f"a{mark}b", "c", "") is None
    assert memory.get(*ANN[:3], f"a{mark}b", "c") is RESULT


@given(PARTS, st.data())
def test_moved_border_makes_another_key(parts: list[str], data: st.DataObject) -> None:
    memory = VerifiedCredentials()
    remember(memory, parts[0], parts[1], parts[2], *parts[3:], result=RESULT, seconds=60)
    whole = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=2, max_size=6)))
    other = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert (memory.get(other[0], other[1], other[2], *other[3:]) is RESULT) == (parts == other)


def test_lone_surrogates_have_their_own_key() -> None:
    memory = VerifiedCredentials()
    remember(memory, "basic", "acme", "", "\ud800", "?", result=RESULT, seconds=60)
    assert memory.get("basic", "acme", "", "\ud800", "?") is RESULT
    assert memory.get("basic", "acme", "", "?", "?") is None


@pytest.mark.parametrize("seconds", [0, -1, 0.0])
def test_zero_seconds_cache_nothing(seconds: float) -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN, result=RESULT, seconds=seconds)
    assert memory.get(*ANN) is None
    assert len(memory) == 0


def test_invalidate_removes_one_entry() -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN, result=RESULT, seconds=60)
    remember(memory, *ANN, "more", result=RESULT, seconds=60)
    memory.invalidate(*ANN)
    memory.invalidate(*ANN)
    assert memory.get(*ANN) is None
    assert memory.get(*ANN, "more") is RESULT


def test_newest_result_replaces_the_old() -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN, result=Result({}, "old"), seconds=60)
    remember(memory, *ANN, result=RESULT, seconds=60)
    assert memory.get(*ANN) is RESULT
    assert len(memory) == 1


def test_least_recently_used_entry_is_evicted() -> None:
    memory = VerifiedCredentials(max_entries=3)
    for name in ("ann", "bob", "cy"):
        remember(memory, "basic", "acme", "", name, result=RESULT, seconds=60)
    assert memory.get("basic", "acme", "", "ann") is RESULT
    remember(memory, "basic", "acme", "", "dee", result=RESULT, seconds=60)
    found = [memory.get("basic", "acme", "", name) is not None for name in ("ann", "bob", "cy", "dee")]
    assert found == [True, False, True, True]
    assert repr(memory) == "VerifiedCredentials(3 of 3)"


def test_expired_entries_are_removed_on_insert() -> None:
    clock = Clock()
    memory = VerifiedCredentials(clock=clock)
    for name in range(100):
        remember(memory, "basic", "acme", "", str(name), result=RESULT, seconds=10)
    clock.advance(11)
    remember(memory, *ANN, result=RESULT, seconds=10)
    assert len(memory) == 1


def test_time_below_the_clocks_resolution_caches_nothing() -> None:
    clock = Clock()
    memory = VerifiedCredentials(clock=clock)
    remember(memory, *ANN, result=RESULT, seconds=1e-12)
    assert len(memory) == 0


def test_capacity_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        VerifiedCredentials(max_entries=0)
    memory = VerifiedCredentials(max_entries=1)
    remember(memory, *ANN, result=RESULT, seconds=60)
    assert memory.get(*ANN) is RESULT


def test_memory_contains_no_secret() -> None:
    secret = "correct horse " + os.urandom(8).hex()
    memory = VerifiedCredentials()
    remember(memory, "basic", "acme", "", "ann", secret, result=RESULT, seconds=60)
    assert memory.get("basic", "acme", "", "ann", secret) is RESULT
    held = reachable(memory)
    assert any(found is RESULT for found in held)
    for found in held:
        assert not (isinstance(found, str) and secret in found)
        assert not (isinstance(found, (bytes, bytearray)) and secret.encode() in found)


def keys_held(memory: VerifiedCredentials) -> set[bytes]:
    """Return the digests under which a memory keeps its results: only there can its key be seen to be its own."""
    return {found for found in reachable(memory) if isinstance(found, bytes) and len(found) == 32}


@pytest.mark.parametrize("fork", FORKS)
def test_child_begins_empty_with_its_own_key(fork: str) -> None:
    memory = VerifiedCredentials()
    remember(memory, *ANN, result=RESULT, seconds=60)
    before = keys_held(memory)
    assert before

    def begins_empty() -> bool:
        empty = memory.get(*ANN) is None and len(memory) == 0
        remember(memory, *ANN, result=RESULT, seconds=60)
        return empty and memory.get(*ANN) is RESULT and len(keys_held(memory)) > len(before)

    assert holds_in_child(begins_empty, fork=fork)
    assert memory.get(*ANN) is RESULT
    assert keys_held(memory) == before


@pytest.mark.parametrize("fork", FORKS)
def test_child_inherits_no_lock(fork: str) -> None:
    within, go_on = threading.Event(), threading.Event()
    workers: list[threading.Thread] = []

    def clock() -> float:
        # The worker recalls, which looks at the clock within the lock.
        if threading.current_thread() in workers:
            within.set()
            go_on.wait()
        return 0.0

    memory = VerifiedCredentials(clock=clock)
    remember(memory, *ANN, result=RESULT, seconds=60)
    workers.append(threading.Thread(target=lambda: memory.get(*ANN)))
    workers[0].start()
    assert within.wait(20)

    def remembers() -> bool:
        remember(memory, *ANN, result=RESULT, seconds=60)
        return memory.get(*ANN) is RESULT

    assert holds_in_child(remembers, fork=fork)
    go_on.set()
    workers[0].join()
    assert memory.get(*ANN) is RESULT


@pytest.mark.parametrize("fork", FORKS)
def test_child_does_not_wait_for_its_parent(fork: str) -> None:
    memory = VerifiedCredentials()
    assert memory.join(*ANN)[1]
    assert holds_in_child(lambda: memory.join(*ANN)[1], fork=fork)
    assert not memory.join(*ANN)[1]


def test_threads_can_share_it() -> None:
    memory = VerifiedCredentials(max_entries=50)
    begin = threading.Barrier(8)
    wrong: list[object] = []

    def work(worker: int) -> None:
        begin.wait()
        for turn in range(300):
            credentials = ("basic", "acme", "", str((worker * 7 + turn) % 80))
            expected = Result({}, credentials[3])
            remember(memory, *credentials, result=expected, seconds=60)
            found = memory.get(*credentials)
            if found not in (None, expected):
                wrong.append(found)
            memory.invalidate("basic", "acme", "", str(turn % 80))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(memory) <= 50
