"""The cache: expiry, capacity, invalidation during a read, forks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.limits.cache import Cache, cached_accounts

from ..forking import FORKS, holds_in_child
from ..state.contract import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[str, str]:
    return Cache(2, clock=clock)


def read(cache: Cache[str, str], key: str = "key", value: str = "value") -> None:
    cache.put(key, value, cache.begin())


def test_cached_value_expires(cache: Cache[str, str], clock: Clock) -> None:
    read(cache)
    for _ in range(19):
        clock.advance(0.1)
        assert cache.get("key") == "value"  # being recalled does not prolong
    clock.advance(0.11)
    assert cache.get("key") is None
    assert cache.get("other") is None


def test_length_waits_for_other_threads() -> None:
    within, counting = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    overlapped: list[bool] = []

    def clock() -> float:
        # Each thread looks at the clock within the lock: the first when it recalls, the second when it counts.
        if threading.current_thread() in threads[:1]:
            within.set()
            overlapped.append(counting.wait(0.5))
        elif threading.current_thread() in threads[1:]:
            counting.set()
        return 0.0

    cache: Cache[str, str] = Cache(2, clock=clock)
    read(cache)
    counted: list[int] = []
    threads.append(threading.Thread(target=lambda: cache.get("key")))
    threads.append(threading.Thread(target=lambda: counted.append(len(cache))))
    threads[0].start()
    assert within.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert counted == [1]
    assert counting.is_set()
    assert overlapped == [False]


def test_lifetime_starts_before_the_read(cache: Cache[str, str], clock: Clock) -> None:
    reading = cache.begin()
    clock.advance(1.5)
    cache.put("key", "slow", reading)
    assert cache.get("key") == "slow"
    clock.advance(0.6)
    assert cache.get("key") is None


@pytest.mark.parametrize("forget", [lambda cache: cache.invalidate("key"), lambda cache: cache.clear()])
def test_value_invalidated_during_a_read_is_not_cached(
    cache: Cache[str, str], forget: Callable[[Cache[str, str]], None]
) -> None:
    reading = cache.begin()
    forget(cache)
    cache.put("key", "of before", reading)
    assert cache.get("key") is None
    read(cache, value="of afterwards")
    assert cache.get("key") == "of afterwards"


def test_one_key_or_all_are_removed(cache: Cache[str, str]) -> None:
    for key in "abc":
        read(cache, key, key)
    cache.invalidate("a")
    cache.discard("b")
    cache.discard("nobody")
    assert [cache.get(key) for key in "abc"] == [None, None, "c"]
    cache.clear()
    assert (cache.get("c"), len(cache)) == (None, 0)


def test_zero_seconds_cache_nothing(clock: Clock) -> None:
    cache: Cache[str, str] = Cache(0, clock=clock)
    read(cache)
    assert cache.get("key") is None
    assert len(cache) == 0


def test_least_recently_used_value_is_evicted(clock: Clock) -> None:
    cache: Cache[str, str] = Cache(2, max_entries=2, clock=clock)
    for key in ("a", "b", "a", "c"):
        read(cache, key, key)
    assert [cache.get(key) for key in "abc"] == ["a", None, "c"]
    assert repr(cache) == "Cache(2 of 2)"


def test_expired_values_are_removed_on_insert(cache: Cache[str, str], clock: Clock) -> None:
    for number in range(100):
        read(cache, str(number))
    clock.advance(2)
    read(cache)
    assert len(cache) == 1


def test_read_caches_only_found_values(cache: Cache[str, str], clock: Clock) -> None:
    found: list[str | None] = ["first", None, None, "second"]
    assert [cache.read("key", lambda: found.pop(0)) for _ in range(3)] == ["first"] * 3
    clock.advance(2)
    assert [cache.read("key", lambda: found.pop(0)) for _ in range(4)] == [None, None, "second", "second"]


@pytest.mark.parametrize("fork", FORKS)
def test_child_begins_empty_and_parent_keeps_values(cache: Cache[str, str], fork: str) -> None:
    read(cache)
    reading = cache.begin()

    def begins_empty() -> bool:
        empty = cache.get("key") is None and len(cache) == 0
        cache.put("key", "of a read that the parent began", reading)
        return empty and cache.get("key") is None

    assert holds_in_child(begins_empty, fork=fork)
    assert cache.get("key") == "value"


@pytest.mark.parametrize("fork", FORKS)
def test_child_inherits_no_lock(fork: str) -> None:
    within, go_on = threading.Event(), threading.Event()
    workers: list[threading.Thread] = []

    def clock() -> float:
        # The worker remembers, which looks at the clock within the lock.
        if threading.current_thread() in workers:
            within.set()
            go_on.wait()
        return 0.0

    cache: Cache[str, str] = Cache(60, clock=clock)
    begun = cache.begin()
    workers.append(threading.Thread(target=lambda: cache.put("key", "value", begun)))
    workers[0].start()
    assert within.wait(20)

    def remembers() -> bool:
        read(cache, "other")
        return cache.get("other") == "value"

    assert holds_in_child(remembers, fork=fork)
    go_on.set()
    workers[0].join()
    assert cache.get("key") == "value"


class Store:
    """An account store whose accounts are texts; it counts how often it is asked."""

    def __init__(self) -> None:
        self.accounts = {"1": "ann"}
        self.asked = 0
        self.listeners: list[Callable[[], None]] = []

    def find(self, identity: Identity) -> str | None:
        self.asked += 1
        return self.accounts.get(identity.subject)

    def get(self, account_id: str) -> str | None:
        self.asked += 1
        return self.accounts.get(account_id)

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)


def test_account_is_cached_until_expiry_or_change(clock: Clock) -> None:
    store = Store()
    accounts = cached_accounts(store, 2, clock=clock)
    assert accounts is not None
    assert [accounts.get("1"), accounts.get("1"), store.asked] == ["ann", "ann", 1]
    del store.accounts["1"]
    clock.advance(1.9)
    assert accounts.get("1") == "ann"
    clock.advance(0.2)
    assert accounts.get("1") is None
    store.accounts["1"] = "bob"
    assert accounts.get("1") == "bob"  # that an account is missing is not remembered
    store.accounts["1"] = "eve"
    (changed,) = store.listeners
    changed()
    assert accounts.get("1") == "eve"


def test_only_look_ups_by_id_are_cached(clock: Clock) -> None:
    store = Store()
    accounts = cached_accounts(store, 2, clock=clock)
    assert accounts is not None
    named = Identity("web_services", "acme", "1")
    assert [accounts.find(named), accounts.find(named), store.asked] == ["ann", "ann", 2]


def test_without_delay_no_account_is_cached(clock: Clock) -> None:
    assert cached_accounts(Store(), 0, clock=clock) is None


def test_threads_can_share_it() -> None:
    cache: Cache[str, str] = Cache(60, max_entries=20)
    begin = threading.Barrier(8)
    wrong: list[object] = []

    def work(worker: int) -> None:
        begin.wait()
        for turn in range(500):
            key = str((worker * 7 + turn) % 40)
            read(cache, key, key)
            if cache.get(key) not in {None, key}:
                wrong.append(key)
            if turn % 50 == 0:
                cache.invalidate(key)
                cache.discard(str(turn % 40))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache) <= 20
