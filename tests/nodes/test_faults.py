"""Faults under load: no wrong identity, no lost confirmed login, and recovery without intervention.

The visitors check each answer against the known truth (tests/nodes/load.py). Times are printed (``pytest -s``) and
asserted only with a wide margin.
"""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from .crowd import broken_crowd, crowd, load
from .deployment import Deployment, Node, Outside, Servers, Stores, wait_until
from .load import Load, Visitor

BEFORE = 1.0
"""Seconds of a good day before the fault."""


@contextmanager
def under_load(
    deployment: Deployment, visitors: list[Visitor], told: pytest.FixtureRequest, *, also: Collection[int] = ()
) -> Iterator[Load]:
    """Do harm under load; afterwards all is well by itself, and nothing was wrong, lost or undocumented."""
    with load(deployment, visitors, also=also) as running:
        running.until_well()
        time.sleep(BEFORE)
        yield running
        seconds = running.until_well()
    tally = running.tally
    sys.stdout.write(f"\n{told.node.name}: well again after {seconds:.1f} s; {tally.report()}\n")
    assert tally.wrong == []
    assert tally.lost == []
    assert tally.undocumented == []
    assert all(tally.statuses(kind) for kind in {one.kind for one in visitors})


def test_redis_is_killed_and_restarted(
    redis_portal: Deployment, servers: Servers, request: pytest.FixtureRequest
) -> None:
    with under_load(redis_portal, crowd(redis_portal), request) as running:
        servers.redis.stop()
        wait_until(lambda: running.tally.troubles["session"] > 5, "who has a session notices")
        servers.redis.start()
    # Basic and Salesforce need no state: their accounts are elsewhere.
    assert set(running.tally.troubles) == {"session"}


def test_postgresql_is_restarted(
    postgresql_portal: Deployment, servers: Servers, request: pytest.FixtureRequest
) -> None:
    with under_load(postgresql_portal, crowd(postgresql_portal), request) as running:
        servers.postgresql.stop()
        wait_until(lambda: len(running.tally.troubles) == 4, "everybody notices")
        servers.postgresql.start()


@pytest.fixture(scope="module")
def sqlite_portal(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One node of two workers with the state in SQLite."""
    folder = tmp_path_factory.mktemp("sqlite")
    stores = Stores(f"sqlite:///{folder}/state.sqlite3", f"sqlite:///{folder}/accounts.sqlite3")
    with Deployment(folder, stores, outside, nodes=1, preload_app=True) as made:
        yield made


def test_sqlite_is_locked_by_another_process(sqlite_portal: Deployment, request: pytest.FixtureRequest) -> None:
    with under_load(sqlite_portal, crowd(sqlite_portal, turns=10), request) as running:
        locker = sqlite3.connect(sqlite_portal.folder / "state.sqlite3", isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: running.tally.troubles["session"] > 1, "a login fails")
        locker.execute("ROLLBACK")
        locker.close()
    # Readers do not wait for a writer.
    assert set(running.tally.troubles) == {"session"}


def test_sqlite_is_moved_away_and_put_back(sqlite_portal: Deployment, request: pytest.FixtureRequest) -> None:
    state, aside = (sqlite_portal.folder / name for name in ("state.sqlite3", "aside"))
    with under_load(sqlite_portal, crowd(sqlite_portal, turns=10), request) as running:
        state.rename(aside)
        wait_until(lambda: running.tally.troubles["session"] > 5, "requests with a session fail")
        assert not state.exists()
        aside.rename(state)
    assert set(running.tally.troubles) == {"session"}
    assert f"{state} was moved away or deleted while this process used it" in sqlite_portal.logs()


def test_sqlite_finds_the_disk_full(sqlite_portal: Deployment, request: pytest.FixtureRequest) -> None:
    (node,) = sqlite_portal.nodes
    with under_load(sqlite_portal, crowd(sqlite_portal, turns=10), request) as running:
        # No file of a worker grows beyond this size; its log still may.
        written = (sqlite_portal.folder / "state.sqlite3-wal").stat().st_size
        full = max(written, node.log.stat().st_size + 100_000)
        for worker in node.workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        wait_until(lambda: running.tally.troubles["session"] > 1, "a login fails")
        for worker in node.workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert set(running.tally.troubles) == {"session"}
    assert f"free space on the disk of {sqlite_portal.folder}" in sqlite_portal.logs()


def test_broken_salesforces_affect_only_their_own_users(
    redis_portal: Deployment, request: pytest.FixtureRequest
) -> None:
    visitors = [*crowd(redis_portal), *broken_crowd(redis_portal)]
    broken = {one.kind for one in visitors if one.kind.endswith(" Salesforce") and one.good}
    with under_load(redis_portal, visitors, request) as running:
        redis_portal.outside.break_down()
        try:
            wait_until(lambda: all(running.tally.troubles[kind] > 2 for kind in broken), "their users notice")
        finally:
            redis_portal.outside.repair()
    assert set(running.tally.troubles) == broken
    for kind in broken:
        assert set(running.tally.statuses(kind)) == {"200", "503"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_node_ends_and_comes_back(
    postgresql_portal: Deployment, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    node = postgresql_portal.nodes[0]
    visitors = crowd(postgresql_portal)
    # What the node had in hand is cut off; nginx asks the other one only where that changes nothing.
    with under_load(postgresql_portal, visitors, request, also={502}) as running:
        if number == signal.SIGKILL:
            node.kill()
        else:
            node.stop(number)
        running.until_well()
        cut_off = sum(running.tally.troubles.values())
        node.start().wait()
    assert cut_off <= len(visitors)


def reload(node: Node) -> None:
    former = set(node.workers)
    node.tell(signal.SIGHUP)
    wait_until(lambda: len(node.workers) == 2 and not former & set(node.workers), "new workers")


def test_a_reload_fails_no_request(redis_portal: Deployment, request: pytest.FixtureRequest) -> None:
    with under_load(redis_portal, crowd(redis_portal, turns=5), request) as running:
        for node in redis_portal.nodes:
            reload(node)
    assert not running.tally.troubles


def test_a_worker_that_is_killed_is_replaced(redis_portal: Deployment, request: pytest.FixtureRequest) -> None:
    node = redis_portal.nodes[0]
    with under_load(redis_portal, crowd(redis_portal), request, also={502}):
        former = node.workers
        os.kill(former[0], signal.SIGKILL)
        wait_until(lambda: len(node.workers) == 2 and former[0] not in node.workers, "another worker")
