"""MemoryState against the contract, and what is its own: bounded growth."""

from __future__ import annotations

from typing import Any

import pytest

from flask_genesys_auth.chain.ports import StateStore
from flask_genesys_auth.state.memory import MemoryState

from .contract import Clock, StateContract
from .racers import race_threads
from .test_forks import in_child


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
    for number in range(10_000):
        store.put("key", number, 1000, index=["term"])
        assert store.replace("key", number, 1000 + number)
    assert len(store) == 1
    assert len(store._ends) <= 66


def test_its_repr_shows_no_value() -> None:
    store = MemoryState("one")
    store.put("secret-key", "secret-value", 60)
    assert repr(store) == "MemoryState('one')"


def test_a_forked_child_goes_its_own_way() -> None:
    store = MemoryState("one")
    store.put("key", 1, 60)
    assert in_child(lambda: store.take("key") == 1 and store.add("key", 2, 60))
    assert store.get("key") == 1
