"""MemoryState and SqlState behave, step by step, as a dictionary with expiry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.sql import SqlState

from .contract import Clock

KEYS = st.sampled_from(["a", "b", "c", "d"])
TERMS = st.sampled_from(["x", "y", "z"])
INDEX = st.lists(TERMS, max_size=3)
TTLS = st.sampled_from([1.0, 5.0, 30.0])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class StoresAndModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.memory = MemoryState("one", clock=self.clock)
        self.sql = SqlState(f"sqlite:///{Path(self.folder.name) / 'state'}", "one", 30, clock=self.clock)
        self.other = SqlState(f"sqlite:///{Path(self.folder.name) / 'state'}", "two", 30, clock=self.clock)
        self.other.put("a", "other", 1e9, index=["x"])
        self.stores = (self.memory, self.sql)
        self.model: dict[str, tuple[Any, float, frozenset[str]]] = {}

    def teardown(self) -> None:
        assert self.other.get("a") == "other"
        assert self.other.find("x") == ["a"]
        self.sql.close()
        self.other.close()
        self.folder.cleanup()

    @rule(key=KEYS, value=VALUES, ttl=TTLS, index=INDEX)
    def add(self, key: str, value: Any, ttl: float, index: list[str]) -> None:
        expected = key not in self.model
        if expected:
            self.model[key] = (value, self.clock() + ttl, frozenset(index))
        assert [store.add(key, value, ttl, index=index) for store in self.stores] == [expected] * 2

    @rule(key=KEYS, value=VALUES, ttl=TTLS, index=INDEX)
    def put(self, key: str, value: Any, ttl: float, index: list[str]) -> None:
        self.model[key] = (value, self.clock() + ttl, frozenset(index))
        for store in self.stores:
            store.put(key, value, ttl, index=index)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def replace(self, key: str, value: Any, ttl: float) -> None:
        expected = key in self.model
        if expected:
            self.model[key] = (value, self.clock() + ttl, self.model[key][2])
        assert [store.replace(key, value, ttl) for store in self.stores] == [expected] * 2

    @rule(key=KEYS)
    def take(self, key: str) -> None:
        expected = self.model.pop(key, (None,))[0]
        assert [store.take(key) for store in self.stores] == [expected] * 2

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        expected = self.model.pop(key, None) is not None
        assert [store.delete(key) for store in self.stores] == [expected] * 2

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model = {key: entry for key, entry in self.model.items() if entry[1] > self.clock()}

    @rule()
    def purge(self) -> None:
        for store in self.stores:
            store.purge()
            assert store.purge() == 0

    @rule()
    def close(self) -> None:
        for store in self.stores:
            store.close()

    @invariant()
    def all_agree(self) -> None:
        for store in self.stores:
            for key in ("a", "b", "c", "d"):
                assert store.get(key) == self.model.get(key, (None,))[0]
            for term in ("x", "y", "z"):
                assert store.find(term) == sorted(key for key, entry in self.model.items() if term in entry[2])


TestStoresAndModel = StoresAndModel.TestCase
TestStoresAndModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
