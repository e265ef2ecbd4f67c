"""MemoryState: the contract, and its bounded growth."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from typing import Any

import pytest

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.state.memory import MemoryState
from tests.forking import FORKS, holds_in_child

from .contract import Clock, StateContract
from .racers import race_threads


class MemoryBackend:
    """Stores of one process; each namespace is a memory of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._stores: dict[str, MemoryState] = {}

    def open(self, namespace: str) -> StateStore:
        return self._stores.setdefault(namespace, MemoryState(namespace, clock=self.clock))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def race(self, operation: str, *, racers: int) -> list[Any]:
        return race_threads(self.open("one"), operation, racers)


class TestMemoryState(StateContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


def test_expired_entries_go_in_passing_at_writes() -> None:
    clock = Clock()
    store = MemoryState("one", clock=clock)
    for number in range(10_000):
        store.put(f"key-{number}", number, 10, index=[f"term-{number}"])
        clock.advance(1)
    assert len(store) <= 11
    assert store.find("term-9999") == ["key-9999"]


def test_rewriting_one_key_for_ever_takes_no_memory() -> None:
    store = MemoryState("one", clock=Clock())

    def rewrite(times: int) -> None:
        for number in range(times):
            store.put("key", number, 1000, index=["term"])
            assert store.replace("key", number, 1000 + number)

    rewrite(1000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        rewrite(3000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store) == 1
    # 6,000 expiries would take more than 300 kB.
    assert after - before < 100_000


def test_its_repr_shows_no_value() -> None:
    store = MemoryState("one")
    store.put("secret-key", "secret-value", 60)
    assert repr(store) == "MemoryState('one')"


@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_starts_empty(fork: str) -> None:
    store = MemoryState("one")
    store.put("key", 1, 60)
    assert holds_in_child(lambda: store.get("key") is None and store.add("key", 2, 60), fork=fork)
    assert store.get("key") == 1


@pytest.mark.parametrize("fork", FORKS)
def test_lock_held_at_fork_is_free_in_child(fork: str) -> None:
    inside, leave = threading.Event(), threading.Event()
    clock = Clock()

    def slow_clock() -> float:
        if threading.current_thread() is busy:
            inside.set()
            leave.wait()
        return clock()

    store = MemoryState("one", clock=slow_clock)
    busy = threading.Thread(target=store.purge)
    busy.start()
    inside.wait()
    try:
        assert holds_in_child(lambda: store.add("key", 1, 60), fork=fork)
    finally:
        leave.set()
        busy.join()
