"""Measure gunicorn with our extension and with its peers under load on loopback, in one run.

Run ``python -m benchmarks.load``. A closed-loop client in a second process sends requests to each application in turn,
in short rounds, so that a busy moment of the machine affects all of them; the results are ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency import delayed
from benchmarks.load_apps import DATABASE, SESSIONS
from benchmarks.load_processes import COLLEAGUES, Client, Node, Users, basic, nodes, plan, request
from flask_genesys_auth.testing import SalesforceEmulator
from tests.servers import PostgresqlServer, RedisServer

CONNECTIONS = 8
PARTS = ("peers", "latency", "compare", "memory", "outage", "cold")
STORES = ("SQLite", "PostgreSQL", "Redis")
MEBIBYTE = 1 << 20
LATENCY = 1.0
"""Milliseconds of a round trip that ``latency`` adds to the way to Redis and PostgreSQL."""
LOGIN, HTTPAUTH = "Flask-Login, session", "Flask-HTTPAuth, Basic"
SECURITY = "Flask-Security, Flask-Session"


@dataclass(frozen=True)
class Entrant:
    """One application with one kind of user."""

    name: str
    node: Node
    users: Users


@dataclass(frozen=True)
class Target:
    """The target of one figure."""

    what: str
    bound: float
    at_least: bool = False

    def met(self, found: float) -> bool:
        """Return whether it holds."""
        return found >= self.bound if self.at_least else found <= self.bound


def _peer(store: str, way: str) -> str:
    """Return the name of the peer with sessions in this store and users by Flask-SQLAlchemy."""
    return f"Flask-Session on {store}{way}"


TARGETS = {
    **{
        f"session, {store}{way} / {_peer(store, way)}": Target("throughput", 1.3, at_least=True)
        for store in ("Redis", "PostgreSQL")
        for way in ("", f", {LATENCY:g} ms")
    },
    "session while Salesforce hangs / while it is well": Target("throughput", 0.9, at_least=True),
    "Basic while Salesforce hangs / while it is well": Target("throughput", 0.9, at_least=True),
    "session p99 while Salesforce hangs / while it is well": Target("p99", 2.0),
    "Basic p99 while Salesforce hangs / while it is well": Target("p99", 2.0),
    "memory of a worker, Redis / Flask-Security": Target("memory", 1.0),
    "cold logins: MiB of a worker above idle / concurrent_hashes x memory_kib": Target("memory", 1.0),
}


@dataclass
class Report:
    """The results."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def met(self) -> bool:
        """Return whether every target that was measured holds."""
        return all(TARGETS[name].met(found) for name, found in self.ratios.items() if name in TARGETS)

    def print(self) -> None:
        """Print two tables."""
        print(f"{'':44} {'per second':>10} {'p50 ms':>8} {'p99 ms':>8}")
        for row in self.rows:
            print(f"{row['name']:44} {row['per_second']:10.0f} {row['p50']:8.2f} {row['p99']:8.2f}")
        for name, found in self.ratios.items():
            target = TARGETS.get(name)
            verdict = ""
            if target is not None:
                sign = ">=" if target.at_least else "<="
                verdict = f"target {sign} {target.bound:g}  {'met' if target.met(found) else 'MISSED'}"
            print(f"{name:76} {found:6.2f}  {verdict}")
        for note in self.notes:
            print(note)


class Bench:
    """The servers and the measurements.

    :param seconds: of one round.
    """

    def __init__(
        self, folder: Path, start: Callable[..., Node], client: Client, *, rounds: int, seconds: float
    ) -> None:
        self._folder = folder
        self._start = start
        self._client = client
        self._rounds = rounds
        self._seconds = seconds
        self._numbers = count()
        self.salesforce = SalesforceEmulator()
        self.report = Report()

    def ours(self, *, threads: int = 4, **changes: Any) -> Node:
        """Start a node of ours with these keys of ``[GENESYS_AUTH]``."""
        folder = self._folder / f"ours{next(self._numbers)}"
        return self._start("ours", plan=plan(folder, self.salesforce, **changes), threads=threads)

    def entrants(self, stores: dict[str, dict[str, Any]]) -> Iterator[Entrant]:
        """Yield all applications and users of the comparison."""
        login = self._start("with_flask_login")
        yield Entrant(LOGIN, login, Users("session", (request(Cookie=login.session()),), CONNECTIONS))
        yield Entrant(HTTPAUTH, self._start("with_httpauth"), Users("basic", (basic(),), CONNECTIONS))
        known = request(**self.salesforce.add_user("ann@acme.example"))
        for name, changes in stores.items():
            node = self.ours(**changes)
            yield _sessions(f"session, {name}, exact", node)
            yield Entrant(f"Basic, {name}", node, Users("basic", (basic(),), CONNECTIONS))
            yield Entrant(f"Salesforce, {name}", node, Users("salesforce", (known,), CONNECTIONS))
            delayed = self.ours(**changes, session={"revocation_delay": 2})
            yield _sessions(f"session, {name}, revocation_delay 2", delayed)

    def peers(self, stores: Mapping[str, str], way: str = "") -> None:
        """Compare a session of ours with Flask-Login, Flask-Session and Flask-SQLAlchemy on the same server.

        With Redis the users are in SQLite, with PostgreSQL they are there as well.

        :param stores: the address of each server.
        :param way: the latency, as it is shown in a row's name.
        """
        entrants: list[Entrant] = []
        for store, address in stores.items():
            in_redis = store == "Redis"
            accounts: dict[str, Any] = {} if in_redis else {"accounts_url": address}
            folder = self._folder / f"peer{next(self._numbers)}"
            folder.mkdir()
            sqlite = f"sqlite:///{folder / 'users.sqlite3'}"
            servers = {DATABASE: sqlite, SESSIONS: address} if in_redis else {DATABASE: address, SESSIONS: ""}
            peer = self._start("with_flask_session", servers=servers)
            entrants.append(_sessions(_peer(store, way), peer))
            entrants.append(_sessions(f"session, {store}{way}", self.ours(state_url=address, **accounts)))
        found = self._take_turns(entrants)
        for store in stores:
            self._compare_with(found, f"session, {store}{way}", _peer(store, way), _peer(store, way))

    def compare(self, entrants: list[Entrant]) -> None:
        """Compare with peers that read their one user from a dictionary."""
        found = self._take_turns(entrants)
        for name in found:
            peer = LOGIN if name.startswith("session") else HTTPAUTH
            if name not in {LOGIN, HTTPAUTH}:
                self._compare_with(found, name, peer, peer.partition(",")[0])

    def _take_turns(self, entrants: list[Entrant]) -> dict[str, list[dict[str, Any]]]:
        """Measure all of them in turn; report their medians, and return the figures of each round."""
        found: dict[str, list[dict[str, Any]]] = {entrant.name: [] for entrant in entrants}
        for entrant in entrants:
            self._round(entrant, min(1.0, self._seconds))
        for _ in range(self._rounds):
            for entrant in entrants:
                found[entrant.name].append(self._round(entrant, self._seconds))
        for name, rounds in found.items():
            self.report.rows.append({"name": name, **_medians(rounds)})
        return found

    def _compare_with(self, found: Mapping[str, list[dict[str, Any]]], ours: str, peer: str, shown: str) -> None:
        """Note our throughput by the peer's, within a round each."""
        pairs = zip(found[ours], found[peer], strict=True)
        ratio = statistics.median(mine["per_second"] / theirs["per_second"] for mine, theirs in pairs)
        self.report.ratios[f"{ours} / {shown}"] = ratio

    def outage(self) -> None:
        """Compare session and Basic users while Salesforce answers with the same while it hangs.

        Salesforce users send new sessions, and wait one second after each answer.
        """
        found: dict[bool, dict[str, list[dict[str, Any]]]] = {}
        for hangs in (False, True):
            found[hangs] = {"session": [], "basic": []}
        for _ in range(self._rounds):
            # A new node for each pair of rounds, so that both begin with a closed circuit.
            node = self.ours(threads=8)
            kept = Users("session", tuple(request(Cookie=node.session()) for _ in range(4)), 4)
            named = Users("basic", (basic(),), 4)
            self._client.round(node, min(1.0, self._seconds), kept, named)
            for hangs in (False, True):
                with self._hanging(hangs):
                    strangers = [request(**self.salesforce.add_user("ann@acme.example")) for _ in range(200)]
                    cold = Users("salesforce", tuple(strangers), 8, think=1.0)
                    told = self._client.round(node, max(2 * self._seconds, 2.0), kept, named, cold)
                for name, rounds in found[hangs].items():
                    rounds.append(unspoiled(name, told[name]))
                self.report.notes.append(
                    f"Salesforce users while it {'hangs' if hangs else 'answers'}: {told['salesforce']['statuses']}"
                )
            node.stop()
        for name, shown in (("session", "session"), ("basic", "Basic")):
            pairs = list(zip(found[True][name], found[False][name], strict=True))
            for figure, what in (("per_second", shown), ("p99", f"{shown} p99")):
                ratio = statistics.median(ill[figure] / well[figure] for ill, well in pairs)
                self.report.ratios[f"{what} while Salesforce hangs / while it is well"] = ratio

    @contextmanager
    def _hanging(self, hangs: bool) -> Iterator[None]:
        if hangs:
            self.salesforce.fail(hang=True)
        try:
            yield
        finally:
            self.salesforce.repair()

    def memory(self, redis: str) -> None:
        """Compare a worker's memory after the same load: logins by password, then sessions, on Redis and SQLite."""
        folder = self._folder / "security"
        folder.mkdir()
        servers = {DATABASE: f"sqlite:///{folder / 'users.sqlite3'}", SESSIONS: redis}
        entrants = [
            _sessions(SECURITY, self._start("with_flask_security", servers=servers)),
            _sessions("session, Redis, beside Flask-Security", self.ours(state_url=redis)),
        ]
        self._take_turns(entrants)
        theirs, ours = (entrant.node.resident() for entrant in entrants)
        self.report.ratios["memory of a worker, Redis / Flask-Security"] = ours / theirs
        sizes = f"{ours / MEBIBYTE:.1f} MiB of ours, {theirs / MEBIBYTE:.1f} MiB of Flask-Security"
        self.report.notes.append(f"a worker after the same load: {sizes}")

    def cold(self, logins: int) -> None:
        """Run logins that cost one hash each, and compare a worker's peak memory with its limit.

        Of 16 users at once, for those with the same credentials share one hash; twice as many threads as may hash.
        """
        passwords = {"reuse_verified_for": 0, "memory_kib": 19456, "concurrent_hashes": 4}
        node = self.ours(passwords=passwords, throttle={"per_account": "100000 per minute"}, threads=8)
        # The idle memory counts from when each thread has served a request.
        warm = Users("session", (request(Cookie=node.session()),), len(COLLEAGUES))
        self._client.round(node, 1.0, warm)
        idle = node.resident()
        everybody = [Users(name, (basic(name),), 1, body=name) for name in COLLEAGUES]
        done: dict[str, int] = {}
        while done.get("200", 0) < logins:
            for told in self._client.round(node, 5.0, *everybody).values():
                for status, number in told["statuses"].items():
                    done[status] = done.get(status, 0) + number
        may = passwords["concurrent_hashes"] * passwords["memory_kib"] * 1024
        name = "cold logins: MiB of a worker above idle / concurrent_hashes x memory_kib"
        self.report.ratios[name] = (node.resident("VmHWM") - idle) / may
        left = (node.resident() - idle) / MEBIBYTE
        self.report.notes.append(f"cold Basic logins: {done}; afterwards a worker holds {left:.1f} MiB above idle")

    def _round(self, entrant: Entrant, seconds: float) -> dict[str, Any]:
        told = self._client.round(entrant.node, seconds, entrant.users)
        return unspoiled(entrant.name, told[entrant.users.name])


def _sessions(name: str, node: Node) -> Entrant:
    """Return users of this node with a session each."""
    cookies = tuple(request(Cookie=node.session()) for _ in range(CONNECTIONS))
    return Entrant(name, node, Users("session", cookies, CONNECTIONS))


def unspoiled(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one kind of user; a wrong answer ends the benchmark."""
    if told["wrong"] or not told["per_second"]:
        raise SystemExit(f"{name}: wrong answers: {told}")
    return told


def _medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    return {figure: statistics.median(one[figure] for one in rounds) for figure in ("per_second", "p50", "p99")}


@contextmanager
def _stores(folder: Path, wanted: Collection[str]) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield the keys of each store that is wanted and installed here."""
    found: dict[str, dict[str, Any]] = {"SQLite": {}} if "SQLite" in wanted else {}
    running: list[PostgresqlServer | RedisServer] = []
    kinds: tuple[tuple[str, type[PostgresqlServer | RedisServer]], ...] = (
        ("PostgreSQL", PostgresqlServer),
        ("Redis", RedisServer),
    )
    try:
        for name, kind in kinds:
            if name not in wanted:
                continue
            place = folder / name
            place.mkdir()
            try:
                server = kind(place)
            except pytest.skip.Exception as missing:
                print(missing, file=sys.stderr)
                continue
            running.append(server)
            found[name] = {"state_url": server.url}
            if name == "PostgreSQL":
                found[name]["accounts_url"] = server.url
        yield found
    finally:
        for server in running:
            server.stop()


@contextmanager
def _farther(servers: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield addresses of the same servers whose answers come later."""
    with ExitStack() as stack:
        found = {}
        for name, address in servers.items():
            port = re.search(r"(?<=127\.0\.0\.1:)\d+", address)
            assert port is not None
            found[name] = address.replace(port[0], str(stack.enter_context(delayed(int(port[0]), LATENCY))))
        yield found


def measure(*, rounds: int, seconds: float, cold: int, parts: Collection[str], stores: Collection[str]) -> Report:
    """Measure the named parts, and the comparison with each of ``stores``."""
    with tempfile.TemporaryDirectory(prefix="load-") as name, nodes() as start, Client() as client:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user walks through it
        bench = Bench(folder, start, client, rounds=rounds, seconds=seconds)
        with bench.salesforce.serve(), _stores(folder, stores) as found:
            servers = {name: str(keys["state_url"]) for name, keys in found.items() if keys}
            if "peers" in parts:
                bench.peers(servers)
            if "latency" in parts:
                with _farther(servers) as far:
                    bench.peers(far, f", {LATENCY:g} ms")
            if "memory" in parts and "Redis" in servers:
                bench.memory(servers["Redis"])
            if "compare" in parts:
                bench.compare(list(bench.entrants(found)))
            if "outage" in parts:
                bench.outage()
            if "cold" in parts:
                bench.cold(cold)
        return bench.report


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="A load on loopback, next to the peers.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--cold", type=int, default=10_000, help="cold logins")
    parser.add_argument("--only", choices=PARTS, action="append", help="may be repeated; default: all")
    parser.add_argument("--store", choices=STORES, action="append", help="may be repeated; default: all")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    report = measure(
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        cold=chosen.cold,
        parts=chosen.only or PARTS,
        stores=chosen.store or STORES,
    )
    if chosen.json:
        print(json.dumps({"rows": report.rows, "ratios": report.ratios, "notes": report.notes}, indent=2))
    else:
        report.print()
    return 0 if report.met() else 1


if __name__ == "__main__":
    sys.exit(main())
