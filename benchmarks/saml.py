"""Measure the verification of one SAML response beside other libraries, in one run.

Run ``python -m benchmarks.saml``; one thread, CPU time. The libraries take turns in short rounds, so that a busy moment
of the machine affects all of them; the results are ratios of medians.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.state.sql import SqlState

from .saml_encrypted import ENCRYPTED, PRIVATE, of_encrypted
from .saml_fixtures import (
    USER,
    Contender,
    Desk,
    Rewinding,
    begin,
    complete,
    cross_checked,
    pending_login,
    stateless,
)
from .saml_peers import peers
from .saml_worst import worst_messages

WORST = 20.0
"""Milliseconds that the worst message may take."""


@dataclass(frozen=True)
class Target:
    """A target: the highest ratio of our cost and the other's.

    :param apart: an unavoidable cost that is subtracted from ours.
    """

    ours: str
    peer: str
    at_most: float
    apart: str = ""

    def ratio(self, medians: Mapping[str, float]) -> float | None:
        """Return how many times the other's cost ours is; nothing where one was not measured."""
        if not {self.ours, self.peer} <= set(medians):
            return None
        return (medians[self.ours] - medians.get(self.apart, 0.0)) / medians[self.peer]


COMPLETE = "ours, complete (SQLite state)"
BARE = "ours, gate + verification + binding"
TARGETS = (
    Target(COMPLETE, "python3-saml, settings reused", 0.35),
    Target(BARE, "minisaml", 1.5),
    Target(ENCRYPTED, BARE, 1.2, apart=PRIVATE),
    Target("ours, complete, 1,000 contact centers", COMPLETE, 1.05),
    Target("refused: a wrong byte in the signature", BARE, 1.0),
    Target("refused: signed by another key", BARE, 1.0),
    Target("refused: expired", BARE, 1.0),
)


def contenders(desk: Desk, modules: Path | None, centers: int, stack: ExitStack) -> Iterator[Contender]:
    """Yield all of them.

    :param modules: where node-saml is installed.
    :param centers: how many contact centers are many.
    """
    service = desk.service()
    encoded = desk.message(service).encoded(desk.key)
    state = stack.enter_context(closing(desk.folder / "one.sqlite3"))
    yield of_centers(COMPLETE, {"acme": service}, state, {"acme": encoded})
    yield stateless(BARE, service, encoded)
    yield cross_checked("ours, the same with cross_check", service, encoded)
    yield from of_encrypted(desk)
    yield from peers(desk, service, encoded, modules, stack)
    many = {f"center{number}": desk.service(f"center{number}") for number in range(centers)}
    middle = f"center{centers // 2}"
    asked = {middle: desk.message(many[middle]).encoded(desk.key)}
    state = stack.enter_context(closing(desk.folder / "many.sqlite3"))
    yield of_centers("ours, complete, 1,000 contact centers", many, state, asked)
    yield from refused(desk, service, encoded)


class closing:  # noqa: N801 - it reads as contextlib's own
    """A state in a SQLite file, closed in the end."""

    def __init__(self, path: Path) -> None:
        self.state = SqlState(f"sqlite:///{path}", "benchmark", 5.0)

    def __enter__(self) -> SqlState:
        return self.state

    def __exit__(self, *_: object) -> None:
        self.state.close()


def of_centers(
    name: str, services: dict[str, ServiceProvider], state: SqlState, responses: dict[str, str]
) -> Contender:
    """Return the complete way, the contact center looked up among the others."""
    way = Rewinding(services, state, responses)
    return Contender(name, way.call, way.ready)


def refused(desk: Desk, service: ServiceProvider, encoded: str) -> Iterator[Contender]:
    """Yield messages that are refused as late as may be."""
    text = base64.b64decode(encoded)
    place = text.index(b"<ds:SignatureValue>") + 40
    wrong = text[:place] + (b"A" if text[place : place + 1] != b"A" else b"B") + text[place + 1 :]
    signed = base64.b64encode(wrong).decode()
    yield stateless("refused: a wrong byte in the signature", service, signed, refused=True)
    other = desk.message(service).encoded(Desk(desk.folder).key)
    yield stateless("refused: signed by another key", service, other, refused=True)
    ended = desk.message(service).but(confirmation_not_on_or_after=-3600.0).encoded(desk.key)
    yield stateless("refused: expired", service, ended, refused=True)


def measure(entrants: list[Contender], *, rounds: int, calls: int) -> dict[str, float]:
    """Return each one's median of all rounds, in microseconds per response."""
    samples: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    for entrant in entrants:
        timed(entrant, 2)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for entrant in entrants:
                samples[entrant.name].append(timed(entrant, max(1, calls // entrant.weight)) * 1e6)
            gc.collect()
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in samples.items()}


def timed(entrant: Contender, calls: int) -> float:
    """Return seconds per call; any other answer than the user ends the benchmark."""
    spent = 0.0
    for _ in range(calls):
        entrant.ready()
        began = entrant.clock()
        found = entrant.call()
        spent += entrant.clock() - began
        if found != USER:
            raise SystemExit(f"{entrant.name}: {found!r} instead of {USER!r}")
    return spent / calls


def many_logins(desk: Desk, *, threads: int, logins: int) -> tuple[int, float]:
    """Log in in threads, each response its own; return the errors and the logins in a second."""
    services = {"acme": desk.service()}
    with closing(desk.folder / "threads.sqlite3") as state:
        requests = [f"_request-{number}" for number in range(logins)]
        messages = [desk.message(services["acme"], request).encoded(desk.key) for request in requests]
        for request in requests:
            begin(state, pending_login(services["acme"], request))
        accepted: list[str] = []

        def run(first: int) -> None:
            accepted.extend(complete(services, "acme", state, encoded).subject for encoded in messages[first::threads])

        running = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
        began = time.perf_counter()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return logins - accepted.count(USER), logins / (time.perf_counter() - began)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the verification of a SAML response beside other libraries.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50, help="responses per contender and round")
    parser.add_argument("--centers", type=int, default=1000, help="how many contact centers are many")
    parser.add_argument("--logins", type=int, default=10_000, help="of 8 threads together")
    parser.add_argument("--node-modules", type=Path, help="where `npm install @node-saml/node-saml` was typed")
    parser.add_argument("--json", action="store_true", help="print JSON, and the table to standard error")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        desk = Desk(Path(name))
        entrants = list(contenders(desk, chosen.node_modules, chosen.centers, stack))
        medians = measure(entrants, rounds=chosen.rounds, calls=chosen.calls)
        worst = sorted(
            worst_messages(desk, desk.service(own=desk.key), min(3, chosen.rounds)), key=lambda found: -found[1]
        )
        errors, per_second = many_logins(desk, threads=8, logins=chosen.logins)
    ratios = [(target, ratio) for target in TARGETS if (ratio := target.ratio(medians)) is not None]
    met = all(ratio <= target.at_most for target, ratio in ratios) and worst[0][1] <= WORST and not errors
    table = sys.stderr if chosen.json else sys.stdout
    for name, median in medians.items():
        print(f"{name:40} {median:9.1f} us", file=table)
    for target, ratio in ratios:
        print(f"{target.ours:40} {ratio:5.2f} x {target.peer:32} {_verdict(target, ratio)}", file=table)
    print(f"The worst messages of up to 256 kB (target <= {WORST:.0f} ms):", file=table)
    for found, milliseconds, outcome in worst[:8]:
        print(f"  {found:64} {milliseconds:8.1f} ms  {outcome}", file=table)
    print(f"{chosen.logins} logins of 8 threads: {errors} errors, {per_second:.0f} in a second", file=table)
    if chosen.json:
        rows = [{"ours": t.ours, "peer": t.peer, "ratio": round(r, 3), "target": t.at_most} for t, r in ratios]
        told = {"microseconds": medians, "ratios": rows, "worst": worst, "errors": errors, "per_second": per_second}
        print(json.dumps(told, indent=2))
    return 0 if met else 1


def _verdict(target: Target, ratio: float) -> str:
    return f"target <= {target.at_most:4.2f}  {'met' if ratio <= target.at_most else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
