"""The contract of every state store. A subclass adds a fixture ``backend`` for its store, and nothing else."""

from __future__ import annotations

import time
from typing import Any, Protocol

import pytest

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.state.values import BATCH

RACERS = 50


class Clock:
    """A time that tests set; it begins now, so that other processes agree with it for a while."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Backend(Protocol):
    """How the suite reaches one kind of store."""

    def open(self, namespace: str) -> StateStore:
        """Return a store on the one set of data of this test; the backend closes it afterwards."""
        ...

    def advance(self, seconds: float) -> None:
        """Let time pass, for all stores of this test (a server's own clock may mean to sleep)."""
        ...

    def race(self, operation: str, *, racers: int) -> list[Any]:
        """Let so many callers begin one operation of ``racers.py`` at once, as far from each other as may be."""
        ...


class StateContract:
    """The contract of ``chain.protocols.StateStore``."""

    @pytest.fixture
    def store(self, backend: Backend) -> StateStore:
        return backend.open("one")

    def test_is_a_state_store(self, store: StateStore) -> None:
        kept: StateStore = store
        assert kept.get("nothing") is None

    @pytest.mark.parametrize(
        "value",
        [
            "text",
            "",
            "käse \u0000 \U0001f600",
            0,
            -1.5,
            True,
            False,
            [],
            {},
            [1, "two", None, {"three": [3.0]}],
            {"account": "7", "roles": ["a", "b"], "nested": {"deep": {"deeper": None}}},
            "x" * 100_000,
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_json_comes_back_as_it_was(self, store: StateStore, value: Any) -> None:
        store.put("key", value, 60)
        assert store.get("key") == value
        assert type(store.get("key")) is type(value)
        assert store.take("key") == value

    def test_stored_values_are_copies(self, store: StateStore) -> None:
        value: Any = {"roles": ["agent"]}
        store.put("key", value, 60)
        value["roles"].append("admin")
        read: Any = store.get("key")
        assert read == {"roles": ["agent"]}
        read["roles"].append("admin")
        assert store.get("key") == {"roles": ["agent"]}

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"of": [float("-inf")]}])
    def test_numbers_that_json_has_not_are_refused(self, store: StateStore, value: Any) -> None:
        with pytest.raises(ValueError, match="JSON compliant"):
            store.put("key", value, 60)
        assert store.get("key") is None

    def test_value_outside_json_is_refused(self, store: StateStore) -> None:
        value: Any = {"of": b"bytes"}
        with pytest.raises(TypeError):
            store.add("key", value, 60)
        assert store.get("key") is None

    @pytest.mark.parametrize("key", ["k" * 255, "ä" * 255, "with space", "a'b\"c%_\\", "a:b/c", "\U0001f511"])
    def test_keys_and_terms_may_have_255_characters(self, store: StateStore, key: str) -> None:
        assert store.add(key, 1, 60, index=[key])
        assert store.get(key) == 1
        assert store.find(key) == [key]
        assert store.replace(key, 2, 60)
        assert store.take(key) == 2
        assert store.find(key) == []

    @pytest.mark.parametrize("key", ["", "k" * 256, "lone \ud800 surrogate", "nul \0"])
    def test_every_method_refuses_invalid_keys_and_terms(self, store: StateStore, key: str) -> None:
        store.put("good", 1, 60, index=["term"])
        for call in (
            lambda: store.add(key, 1, 60),
            lambda: store.add("good", 1, 60, index=[key]),
            lambda: store.put(key, 1, 60),
            lambda: store.put("good", 1, 60, index=[key]),
            lambda: store.replace(key, 1, 60),
            lambda: store.get(key),
            lambda: store.get_many(["good", key]),
            lambda: store.take(key),
            lambda: store.delete(key),
            lambda: store.find(key),
            lambda: list(store.find_each(key)),
            lambda: store.delete_found(key),
        ):
            with pytest.raises(ValueError, match=r"255 characters|surrogates|a NUL"):
                call()
        assert store.get("good") == 1
        assert store.find("term") == ["good"]

    @pytest.mark.parametrize("ttl", [0, -1, float("nan")])
    def test_a_time_to_live_is_greater_than_0(self, store: StateStore, ttl: float) -> None:
        for write in (store.add, store.put, store.replace):
            with pytest.raises(ValueError, match="greater than 0"):
                write("key", 1, ttl)
        assert store.get("key") is None

    def test_add_stores_only_where_nothing_lives(self, store: StateStore) -> None:
        assert store.add("key", "first", 60) is True
        assert store.add("key", "second", 60) is False
        assert store.get("key") == "first"

    def test_a_refused_add_leaves_time_and_index_alone(self, backend: Backend, store: StateStore) -> None:
        store.add("key", "first", 60, index=["one"])
        assert not store.add("key", "second", 600, index=["two"])
        assert (store.find("one"), store.find("two")) == (["key"], [])
        backend.advance(61)
        assert store.get("key") is None

    def test_put_overwrites_value_time_and_index(self, backend: Backend, store: StateStore) -> None:
        store.put("key", 1, 10, index=["one", "both"])
        store.put("key", 2, 100, index=["two", "both"])
        assert store.get("key") == 2
        assert [store.find(term) for term in ("one", "two", "both")] == [[], ["key"], ["key"]]
        backend.advance(50)
        assert store.get("key") == 2
        store.put("key", 3, 100)
        assert store.find("both") == []

    def test_replace_keeps_the_index_and_brings_nothing_back(self, backend: Backend, store: StateStore) -> None:
        assert store.replace("key", 1, 60) is False
        assert store.get("key") is None
        store.put("key", 1, 10, index=["term"])
        assert store.replace("key", 2, 100) is True
        backend.advance(50)
        assert store.get("key") == 2
        assert store.find("term") == ["key"]
        backend.advance(51)
        assert store.replace("key", 3, 100) is False
        store.put("key", 4, 60)
        store.delete("key")
        assert store.replace("key", 5, 60) is False
        assert store.get("key") is None

    def test_many_are_read_as_each_is(self, backend: Backend, store: StateStore) -> None:
        for number in range(1201):
            store.put(f"key-{number}", {"number": number}, 10 if number % 2 else 100)
        backend.open("two").put("elsewhere", 1, 100)
        assert store.get_many([]) == []
        assert store.get_many(["key-3", "nobody", "key-2", "elsewhere", "key-3"]) == [
            {"number": 3},
            None,
            {"number": 2},
            None,
            {"number": 3},
        ]
        backend.advance(11)
        assert store.get_many([f"key-{number}" for number in range(1201)]) == [
            None if number % 2 else {"number": number} for number in range(1201)
        ]

    def test_take_gives_once(self, store: StateStore) -> None:
        store.put("key", {"a": 1}, 60, index=["term"])
        assert store.take("key") == {"a": 1}
        assert store.take("key") is None
        assert store.get("key") is None
        assert store.find("term") == []

    def test_delete_tells_whether_it_was_there(self, store: StateStore) -> None:
        store.put("key", 1, 60, index=["term"])
        assert store.delete("key") is True
        assert store.delete("key") is False
        assert store.find("term") == []

    def test_no_method_sees_an_expired_entry(self, backend: Backend, store: StateStore) -> None:
        keys = ("get", "take", "delete", "replace", "add", "put")
        for key in keys:
            store.put(key, "old", 10, index=["old"])
        store.put("lives", "still", 100, index=["old"])
        assert store.get("get") == "old"
        backend.advance(10.1)
        assert store.get("get") is None
        assert store.find("old") == ["lives"]
        assert store.take("take") is None
        assert store.delete("delete") is False
        assert store.replace("replace", "new", 10) is False
        assert store.add("add", "new", 10) is True
        store.put("put", "new", 10, index=["new"])
        assert (store.get("add"), store.get("put"), store.get("lives")) == ("new", "new", "still")
        assert (store.find("old"), store.find("new")) == (["lives"], ["put"])

    def test_a_new_key_has_no_expired_terms(self, backend: Backend, store: StateStore) -> None:
        store.put("key", 1, 10, index=["former"])
        backend.advance(11)
        assert store.add("key", 2, 10, index=["present"])
        assert (store.find("former"), store.find("present")) == ([], ["key"])

    def test_the_index_finds_all_keys_of_a_term(self, store: StateStore) -> None:
        for number in range(5):
            terms = ["all", "even" if number % 2 == 0 else "odd", "all"]
            store.put(f"key-{number}", number, 60, index=terms)
        assert sorted(store.find("all")) == [f"key-{number}" for number in range(5)]
        assert sorted(store.find("odd")) == ["key-1", "key-3"]
        assert store.find("al") == store.find("ALL") == store.find("%") == []
        store.take("key-1")
        store.delete("key-3")
        assert store.find("odd") == []
        assert len(store.find("all")) == 3

    def test_very_many_are_found_in_batches(self, backend: Backend, store: StateStore) -> None:
        for number in range(2 * BATCH + 3):
            store.put(f"key-{number}", 1, 10 if number % 2 else 100, index=["many", "few" if number < 3 else "rest"])
        backend.open("two").put("elsewhere", 1, 100, index=["many"])
        batches = list(store.find_each("many"))
        assert {len(batch) <= BATCH for batch in batches} == {True}
        assert {key for batch in batches for key in batch} == {f"key-{number}" for number in range(2 * BATCH + 3)}
        backend.advance(11)
        living = {f"key-{number}" for number in range(0, 2 * BATCH + 3, 2)}
        assert {key for batch in store.find_each("many") for key in batch} == living
        assert sorted(key for batch in store.find_each("few") for key in batch) == ["key-0", "key-2"]
        assert list(store.find_each("nobody")) == []

    def test_keys_may_disappear_between_batches(self, store: StateStore) -> None:
        for number in range(BATCH + 3):
            store.put(f"key-{number}", 1, 100, index=["many"])
        seen = set()
        for batch in store.find_each("many"):
            seen.update(batch)
            assert store.take(batch[0]) in {1, None}
        assert seen == {f"key-{number}" for number in range(BATCH + 3)}

    def test_keys_of_one_term_are_deleted_in_batches(self, backend: Backend, store: StateStore) -> None:
        for number in range(2 * BATCH + 3):
            store.put(f"key-{number}", 1, 100, index=["many", f"of-{number % 2}"])
        store.put("another", 1, 100, index=["of-0"])
        other = backend.open("two")
        other.put("key-1", 1, 100, index=["many"])
        assert [store.delete_found("many") for _ in range(4)] == [BATCH, BATCH, 3, 0]
        assert store.find("many") == store.find("of-1") == []
        assert store.find("of-0") == ["another"]
        assert store.get("key-7") is None
        assert store.delete_found("nobody") == 0
        assert other.find("many") == ["key-1"]
        store.put("key-1", 2, 100, index=["many"])
        assert store.delete_found("many") == 1

    def test_delete_found_does_not_count_expired_keys(self, backend: Backend, store: StateStore) -> None:
        for number in range(BATCH + 20):
            store.put(f"short-{number}", 1, 10, index=["many"])
        for number in range(3):
            store.put(f"zlong-{number}", 1, 100, index=["many"])
        backend.advance(11)
        assert [store.delete_found("many") for _ in range(2)] == [3, 0]
        assert list(store.find_each("many")) == []

    def test_parallel_deletions_delete_each_key_once(self, backend: Backend) -> None:
        store = backend.open("one")
        for number in range(2 * BATCH):
            store.put(f"key-{number}", 1, 600, index=["term"])
        results = backend.race("delete_found", racers=20)
        assert sum(gone for _, gone in results) == 2 * BATCH
        assert store.find("term") == []

    def test_no_replace_restores_a_key_deleted_by_term(self, backend: Backend) -> None:
        store = backend.open("one")
        for number in range(40):
            store.put(f"key-{number}", 1, 600, index=["term"])
        results = backend.race("touch_or_delete_found", racers=10)
        assert [gone for racer, gone in results if racer == 0] == [40]
        assert store.find("term") == []
        assert store.get_many([f"key-{number}" for number in range(40)]) == [None] * 40

    def test_purge_deletes_what_has_expired_and_nothing_else(self, backend: Backend, store: StateStore) -> None:
        for number in range(250):
            store.put(f"short-{number}", number, 10, index=["short"])
        store.put("long", 1, 1000, index=["long"])
        assert store.purge() == 0
        backend.advance(11)
        assert store.purge() == 250
        assert store.purge() == 0
        assert store.get("long") == 1
        assert store.find("long") == ["long"]

    def test_keys_differ_by_case_and_normal_form(self, store: StateStore) -> None:
        names = ["key", "KEY", "caf\u00e9", "cafe\u0301", "key "]
        for name in names:
            assert store.add(name, name, 60, index=[name])
        assert [store.get(name) for name in names] == names
        assert [store.find(name) for name in names] == [[name] for name in names]

    def test_namespaces_never_meet(self, backend: Backend, store: StateStore) -> None:
        other = backend.open("two")
        store.put("key", "one", 60, index=["term"])
        assert other.get("key") is None
        assert other.find("term") == []
        assert other.take("key") is None
        assert other.delete("key") is False
        assert other.replace("key", "two", 60) is False
        assert other.add("key", "two", 60, index=["term"]) is True
        assert (store.get("key"), other.get("key")) == ("one", "two")
        assert other.delete("key") is True
        assert store.get("key") == "one"
        assert store.find("term") == ["key"]

    def test_a_namespace_does_not_run_into_the_key(self, backend: Backend) -> None:
        short, long = backend.open("app"), backend.open("app:x")
        short.put("x:key", 1, 60, index=["x:term"])
        assert long.get("key") is None
        assert long.find("term") == []
        long.put("key", 2, 60)
        assert short.get("x:key") == 1

    def test_a_closed_store_opens_again(self, store: StateStore) -> None:
        store.put("key", 1, 60)
        store.close()
        store.close()
        assert store.get("key") == 1
        store.close()
        assert store.take("key") == 1

    def test_clear_deletes_all_of_one_namespace(self, backend: Backend) -> None:
        store: Any = backend.open("one")
        other = backend.open("two")
        for key in ("first", "second %_*"):
            store.put(key, 1, 600, index=["term"])
            other.put(key, 2, 600, index=["term"])
        store.clear()
        assert (store.get("first"), store.get("second %_*"), store.find("term")) == (None, None, [])
        assert other.find("term") == ["first", "second %_*"]
        assert store.add("first", 3, 600, index=["term"])
        assert store.find("term") == ["first"]

    def test_one_of_many_parallel_adds_wins(self, backend: Backend) -> None:
        results = backend.race("add", racers=RACERS)
        winners = [racer for racer, won in results if won]
        assert len(results) == RACERS
        assert len(winners) == 1
        assert backend.open("one").get("contested") == winners[0]

    def test_one_of_many_parallel_takes_wins(self, backend: Backend) -> None:
        backend.open("one").put("contested", "prize", 600, index=["term"])
        results = backend.race("take", racers=RACERS)
        assert sorted(str(value) for _, value in results) == ["None"] * (RACERS - 1) + ["prize"]
        assert backend.open("one").find("term") == []

    def test_of_many_deletes_at_once_one_was_it(self, backend: Backend) -> None:
        backend.open("one").put("contested", "prize", 600)
        results = backend.race("delete", racers=RACERS)
        assert [deleted for _, deleted in results].count(True) == 1
        assert len(results) == RACERS

    def test_no_replace_restores_a_deleted_key(self, backend: Backend) -> None:
        backend.open("one").put("contested", "prize", 600, index=["term"])
        results = backend.race("replace_or_delete", racers=RACERS)
        assert [done for racer, done in results if racer == 0] == [True]
        assert len(results) == RACERS
        assert backend.open("one").get("contested") is None
        assert backend.open("one").find("term") == []
