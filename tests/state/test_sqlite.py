"""SqlState on SQLite: the contract, several processes, and locked, replaced and damaged files."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.state.database import CONNECTIONS
from flask_genesys_auth.state.sql import MOST_PURGE_WAIT, PURGE_INTERVAL, SqlState
from flask_genesys_auth.state.statements import PURGE_BATCH
from flask_genesys_auth.state.values import BATCH
from tests.forking import FORKS, holds_in_child

from . import racers as racers_module
from .another_answer import check_another_answer, listening
from .contract import Clock, StateContract
from .failing_purge import check_a_purge_that_fails
from .racers import race_threads

ROOT = Path(__file__).parents[2]

NOBODY = 65534
PATIENCE = 30.0
"""Seconds that a store of these tests waits for others: long, so that a slow machine fails nothing."""


class SqliteBackend:
    """Stores of one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "deep" / "state.sqlite3"
        self.url = f"sqlite:///{self.path}"
        self.clock = Clock()
        self._opened: list[SqlState] = []

    def open(self, namespace: str) -> SqlState:
        self._opened.append(SqlState(self.url, namespace, PATIENCE, clock=self.clock))
        return self._opened[-1]

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def race(self, operation: str, *, racers: int, inherit: bool = False) -> list[Any]:
        order = {
            "store": "flask_genesys_auth.state.sql:SqlState",
            "arguments": [self.url, "one", PATIENCE],
            "operation": operation,
            "racers": racers,
            "inherit": inherit,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", racers_module.__name__, json.dumps(order)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        assert (done.returncode, done.stderr) == (0, "")
        return list(json.loads(done.stdout))

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def rows(self, table: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            count: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


def open_files(path: Path) -> int:
    """Return how many connections to this file this process has open."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += one.readlink() == path
    return found


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    made = SqliteBackend(tmp_path)
    yield made
    made.close()


class TestSqliteState(StateContract):
    """The fixture above is the backend."""


def test_threads_share_one_store_and_one_wins(backend: SqliteBackend) -> None:
    store = backend.open("one")
    results = race_threads(store, "add", 50)
    assert [won for _, won in results].count(True) == 1
    assert len(results) == 50
    results = race_threads(store, "take", 50)
    assert [value for _, value in results].count(None) == 49


@pytest.mark.parametrize("operation", ["add", "take"])
def test_forked_workers_use_the_store_they_inherit(backend: SqliteBackend, operation: str) -> None:
    if operation == "take":
        backend.open("one").put("contested", "prize", 600)
    results = backend.race(operation, racers=20, inherit=True)
    assert [bool(won) for _, won in results].count(True) == 1
    assert len(results) == 20


def test_reopened_store_reads_earlier_data(backend: SqliteBackend) -> None:
    first = backend.open("one")
    first.put("key", {"a": [1]}, 60, index=["term"])
    first.close()
    second = backend.open("one")
    assert second.get("key") == {"a": [1]}
    assert second.find("term") == ["key"]


def test_the_file_is_private_and_in_wal_mode(backend: SqliteBackend) -> None:
    store = backend.open("one")
    assert not backend.path.exists()
    store.put("key", 1, 60)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in backend.path.parent.iterdir()}
    assert modes == {"state.sqlite3": 0o600, "state.sqlite3-wal": 0o600, "state.sqlite3-shm": 0o600}
    with closing(sqlite3.connect(backend.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_changes_purge_expired_rows_and_their_terms(backend: SqliteBackend) -> None:
    store = backend.open("one")
    for number in range(PURGE_BATCH * 2 + 5):
        store.put(f"key-{number}", number, 10, index=["a", "b"])
    backend.advance(11)
    left = []
    for _ in range(4):
        store.put("writer", 1, 10, index=["c"])
        left.append((backend.rows("genesys_auth_state"), backend.rows("genesys_auth_state_index")))
    # One batch with each write while there is more, then one look per interval.
    assert left == [(106, 211), (6, 11), (1, 1), (1, 1)]


def test_a_failed_automatic_purge_fails_no_change(backend: SqliteBackend, caplog: pytest.LogCaptureFixture) -> None:
    store = backend.open("one")
    store.put("old", 1, 10)
    backend.advance(11)
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE DELETE ON genesys_auth_state WHEN OLD.key = 'old' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        check_a_purge_that_fails(store, lambda: connection.execute("DROP TRIGGER no"), backend.advance, caplog)
    assert backend.rows("genesys_auth_state") == 3


@contextmanager
def writer_after_each_change(path: Path) -> Iterator[Callable[[], None]]:
    """Let another's write begin whenever the store has given a connection back, until it is told to let go."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def write(*_: object) -> None:
            if not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")

        event.listen(Pool, "checkin", write)
        try:
            yield other.rollback
        finally:
            event.remove(Pool, "checkin", write)
            other.rollback()


def test_a_purge_waits_after_many_misses(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("old", 1, 10)
    backend.advance(11)
    with writer_after_each_change(backend.path) as let_go:
        for _ in range(MOST_PURGE_WAIT // 10 + 1):
            store.put("new", 1, 600)
            let_go()
            backend.advance(PURGE_INTERVAL)
        began = time.monotonic()
        store.put("new", 1, 600)
        assert MOST_PURGE_WAIT / 1000 / 2 < time.monotonic() - began < PATIENCE / 2
        assert backend.rows("genesys_auth_state") == 2
        let_go()
        backend.advance(PURGE_INTERVAL)
    store.put("new", 1, 600)
    assert backend.rows("genesys_auth_state") == 1


def test_a_purge_does_not_wait_for_writers(backend: SqliteBackend, caplog: pytest.LogCaptureFixture) -> None:
    store = backend.open("one")
    store.put("old", 1, 10)
    backend.advance(11)
    with writer_after_each_change(backend.path):
        began = time.monotonic()
        store.put("new", 1, 60)
        assert time.monotonic() - began < PATIENCE / 2
        assert backend.rows("genesys_auth_state") == 2
    assert not caplog.records
    backend.advance(PURGE_INTERVAL)
    store.put("new", 1, 60)
    assert backend.rows("genesys_auth_state") == 1
    # A write still waits for other writers.
    with closing(sqlite3.connect(backend.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
        assert store.add("another", 1, 60)


def test_others_write_while_very_many_are_deleted(backend: SqliteBackend) -> None:
    store, hasty = backend.open("one"), SqlState(backend.url, "one", 2.0, clock=backend.clock)
    for number in range(4 * BATCH):
        store.put(f"key-{number}", 1, 60, index=["many", f"of-{number}"])
    done = threading.Event()

    def delete() -> None:
        while store.delete_found("many"):
            pass
        done.set()

    thread = threading.Thread(target=delete)
    thread.start()
    while not done.is_set():
        hasty.put("other", 1, 60)
    thread.join()
    assert store.find("many") == []
    hasty.close()


def test_purging_is_not_tried_at_every_write(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("first", 1, PURGE_INTERVAL / 4)
    backend.advance(PURGE_INTERVAL / 2)
    store.put("second", 1, 1)
    assert backend.rows("genesys_auth_state") == 2
    assert store.purge() == 1


def test_purge_leaves_the_living_of_other_namespaces(backend: SqliteBackend) -> None:
    one, two = backend.open("one"), backend.open("two")
    two.put("short", 1, 10)
    two.put("long", 1, 100)
    backend.advance(11)
    assert one.purge() == 1
    assert two.get("long") == 1


def test_another_writer_blocks_writes_but_not_reads(backend: SqliteBackend) -> None:
    patient, hasty = backend.open("one"), SqlState(backend.url, "one", 0.05, clock=backend.clock)
    patient.put("key", 1, 60)
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert hasty.get("key") == 1
        writes: list[Callable[[], object]] = [
            lambda: hasty.put("key", 2, 60),
            lambda: hasty.add("other", 2, 60),
            lambda: hasty.replace("key", 2, 60),
            lambda: hasty.take("key"),
            lambda: hasty.delete("key"),
            hasty.purge,
        ]
        for write in writes:
            with pytest.raises(StateUnavailable, match="locked") as refused:
                write()
            assert refused.value.retry_after >= 1
        other.execute("ROLLBACK")
    assert hasty.take("key") == 1
    hasty.close()


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_new_file_times_out_and_recovers(backend: SqliteBackend, lock: str) -> None:
    backend.path.parent.mkdir()
    store = SqlState(backend.url, "one", 0.05)
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        with pytest.raises(StateUnavailable, match="locked"):
            store.get("key")
        other.execute("ROLLBACK")
    assert store.add("key", 1, 60)
    store.close()


def test_a_failed_write_changes_nothing(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60, index=["term"])
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON genesys_auth_state_index BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(StateUnavailable):
        store.put("key", 2, 60, index=["other"])
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("DROP TRIGGER fail")
    assert store.get("key") == 1
    assert store.find("term") == ["key"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_sqlite_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"state_url: .*memory://"):
        SqlState(url, "one", 1.0)


@pytest.mark.parametrize(
    ("url", "finding"),
    [
        ("postgresql+psycopg2://ann:hidden@db/state", r"postgresql\+psycopg2 is not supported"),
        ("no address with hidden in it", "not a valid database URL"),
    ],
)
def test_other_addresses_are_refused_without_showing_their_password(url: str, finding: str) -> None:
    with pytest.raises(ConfigurationError, match=finding) as refused:
        SqlState(url, "one", 1.0)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_version_is_refused_at_the_start(backend: SqliteBackend, version: int) -> None:
    backend.open("one").put("key", 1, 60)
    late = backend.open("one")
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("UPDATE genesys_auth_state_schema SET version = ?", [version])
        connection.commit()
    with pytest.raises(ConfigurationError, match=f"version {version}, this release requires 2; use another file"):
        SqlState(backend.url, "one", 1.0)
    late.close()
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("UPDATE genesys_auth_state_schema SET version = 2")
        connection.commit()
    assert late.get("key") == 1
    backend.close()
    SqlState(backend.url, "one", 1.0)
    assert open_files(backend.path) == 0  # the start leaves no connection open


def test_another_version_is_refused_at_first_use(backend: SqliteBackend) -> None:
    early = backend.open("one")
    backend.open("one").put("key", 1, 60)
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("DELETE FROM genesys_auth_state_schema")
        connection.commit()
    with pytest.raises(ConfigurationError, match="version None"):
        early.get("key")


def test_a_file_of_another_format_is_left_alone(backend: SqliteBackend) -> None:
    backend.path.parent.mkdir()
    backend.path.write_text("a text of somebody's, and a long one at that " * 50)
    before = backend.path.read_bytes()
    store = backend.open("one")
    with pytest.raises(StateUnavailable, match="not a database"):
        store.get("key")
    assert backend.path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_unavailable(backend: SqliteBackend) -> None:
    backend.path.parent.write_text("a file where a folder is due")
    with pytest.raises(StateUnavailable, match="did not answer"):
        backend.open("one").get("key")


def test_a_vanished_file_is_made_anew(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    store.close()
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.executescript(
            "DROP TABLE genesys_auth_state_index; DROP TABLE genesys_auth_state; DROP TABLE genesys_auth_state_schema"
        )
    with pytest.raises(StateUnavailable, match="no such table"):
        store.get("key")
    assert store.add("key", 2, 60)
    assert store.get("key") == 2


def test_a_value_that_is_not_json_is_ignored(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("UPDATE genesys_auth_state SET value = '{broken'")
        connection.commit()
    assert store.get("key") is None
    assert store.take("key") is None
    assert store.add("key", 2, 60) is True


def test_an_error_shows_no_value_and_no_key(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("DROP TABLE genesys_auth_state")
    with pytest.raises(StateUnavailable) as refused:
        store.put("private-key", "private-value", 60, index=["private-term"])
    assert "private" not in str(refused.value)
    assert "private" not in str(refused.value.__cause__)
    assert "private" not in repr(store)


def test_connections_are_bounded_and_closed(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    threads = 2 * CONNECTIONS
    inside = threading.Barrier(threads)
    closed: list[object] = []
    with listening(Pool, "close", lambda connection, _: closed.append(connection)):
        with listening(Pool, "checkout", lambda *_: inside.wait()), ThreadPoolExecutor(threads) as pool:
            assert list(pool.map(store.get, ["key"] * threads)) == [1] * threads
        assert len(closed) == threads - CONNECTIONS
        store.close()
        assert len(closed) == threads
    assert open_files(backend.path) == 0
    assert not list(backend.path.parent.glob("*-wal")), "SQLite removes the log with the last connection"


def test_closing_the_store_closes_a_connection_in_use(backend: SqliteBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    closed: list[int] = []

    def close(*_: object) -> None:
        store.close()
        closed.append(open_files(backend.path))

    with listening(Engine, "before_cursor_execute", close):
        assert store.get("key") == 1
    assert closed == [1]
    assert open_files(backend.path) == 0


def test_a_store_of_a_protocol(backend: SqliteBackend) -> None:
    kept: StateStore = backend.open("one")
    assert repr(kept) == f"SqlState({str(backend.path)!r}, 'one')"


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_opens_its_own_connections(backend: SqliteBackend, fork: str) -> None:
    store = backend.open("one")
    store.put("parent", "of the parent", 60)

    def child() -> bool:
        held = store.get("parent") == "of the parent" and store.add("child", "of the child", 60)
        gc.collect()
        return held and store.take("child") == "of the child"

    assert holds_in_child(child, fork=fork)
    # SQLite's locks belong to the process: had the child closed the file, another writer would not see this one.
    with listening(Engine, "commit", lambda *_: check_locked(backend.path)):
        store.put("parent", "again", 60)
    assert store.get("parent") == "again"


def check_locked(path: Path) -> None:
    """See that another process cannot write now."""
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_forked_during_a_call_is_refused(backend: SqliteBackend, fork: str) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    held: list[bool] = []

    def refused() -> bool:
        with pytest.raises(StateUnavailable, match=r"a thread was using .* when this process was forked"):
            store.get("key")
        return True

    def look(*_: object) -> None:
        if not held:
            held.append(True)
            held.append(holds_in_child(refused, fork=fork))

    with listening(Engine, "before_cursor_execute", look):
        assert store.get("key") == 1
    assert held == [True, True]
    assert store.add("parent", 2, 60)
    # Now that no call is under way, a child is served.
    assert holds_in_child(lambda: store.get("parent") == 2 and store.add("child", 3, 60), fork=fork)
    assert store.get("child") == 3


@pytest.mark.parametrize("fork", FORKS)
def test_a_childs_write_outlives_its_parent(tmp_path: Path, fork: str) -> None:
    program = [sys.executable, "-m", "tests.state.forked_program", str(tmp_path / "state.sqlite3"), fork]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.stdout.splitlines()[-1:] == ['[null, "bob"]'], done.stderr


def test_writers_of_one_process_take_turns(tmp_path: Path) -> None:
    with closing(SqlState(f"sqlite:///{tmp_path / 'state.sqlite3'}", "one", 0.2)) as store:
        store.put("key", 1, 60)
        refused: list[str] = []

        def write() -> None:
            try:
                store.put("key", 2, 60)
            except StateUnavailable as error:
                refused.append(str(error))

        def look(*_: object) -> None:
            other = threading.Thread(target=write)
            other.start()
            other.join(60)

        with listening(Engine, "commit", look, once=True):
            store.put("key", 3, 60)
        assert len(refused) == 1
        assert "threads of this process have been writing for 0.2 s" in refused[0]
        write()
        assert (len(refused), store.get("key")) == (1, 2)


@pytest.mark.parametrize("operation", ["get", "get_many", "find", "take", "replace", "add"])
def test_an_answer_to_another_question_is_unavailable(backend: SqliteBackend, operation: str) -> None:
    check_another_answer(backend.open("one"), operation)


@pytest.mark.parametrize("way", ["moved away", "deleted", "replaced"])
def test_a_moved_or_replaced_file_stops_the_store(backend: SqliteBackend, way: str, tmp_path: Path) -> None:
    store, aside = backend.open("one"), tmp_path / "aside"
    store.put("key", 1, 60)
    if way == "deleted":
        backend.path.unlink()
    else:
        backend.path.rename(aside)
    if way == "replaced":
        backend.path.write_bytes(b"")
    calls: list[Callable[[], object]] = [
        lambda: store.get("key"),
        lambda: store.put("lost", 1, 60),
        lambda: store.take("key"),
        store.purge,
        store.create_tables,
    ]
    for call in calls:
        with pytest.raises(
            StateUnavailable, match="was replaced" if way == "replaced" else "was moved away or deleted"
        ):
            call()
    assert backend.path.exists() == (way == "replaced")
    if way != "deleted":
        aside.replace(backend.path)
        assert store.get("key") == 1
        assert store.take("lost") is None


def test_a_new_store_creates_a_missing_file(backend: SqliteBackend) -> None:
    backend.open("one").put("key", 1, 60)
    for file in backend.path.parent.iterdir():
        file.unlink()
    assert backend.open("one").get("key") is None


def test_a_read_only_file_is_unavailable_with_advice(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend = SqliteBackend(folder)
        backend.open("one").put("key", 1, 60)
        backend.close()
        backend.path.chmod(0o444)
        backend.path.parent.chmod(0o555)
        former = os.geteuid()
        folder.chmod(0o755)
        if former == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StateUnavailable, match="must be writable by the user who runs this"):
                backend.open("one").put("key", 2, 60)
        finally:
            os.seteuid(former)
            backend.path.parent.chmod(0o700)
        backend.path.chmod(0o600)
        assert backend.open("one").get("key") == 1
        backend.close()


FULL_DISK = """
import resource, sys
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state.sql import SqlState

store = SqlState(sys.argv[1], "one", 30.0)
store.put("small", 1, 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    store.put("large", "x" * 1_000_000, 60)
except StateUnavailable as error:
    print(error)
print(store.get("large"), store.get("small"))
"""


def test_a_full_disk_is_unavailable_with_advice(backend: SqliteBackend) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, backend.url], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    refused, kept = done.stdout.splitlines()
    assert f"free space on the disk of {backend.path.parent}" in refused
    assert kept == "None 1"
    store = backend.open("one")
    store.put("large", "x" * 1_000_000, 60)
    assert store.get("large") == "x" * 1_000_000
