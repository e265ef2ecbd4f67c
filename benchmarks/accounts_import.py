"""Measure the import of 100,000 accounts, and the start of our commands beside Flask's.

Run ``python -m benchmarks.accounts_import``. Each command runs in its own process; the system reports its time and its
peak memory. The rows carry password hashes; the time to hash one password is measured separately.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from flask import Flask

from flask_genesys_auth import GenesysAuth, unprotected
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.settings import PasswordSettings

FOLDER = "BENCHMARK_FOLDER"
MOST_MEBIBYTES = 200
"""At the peak of a CSV import."""
MOST_START = 1.5
COLUMNS = ("contact_center", "user_name", "first_name", "last_name", "roles", "password_hash", "identities")


@dataclass(frozen=True)
class Cost:
    """The cost of a process: wall-clock and CPU seconds, and its peak memory in bytes."""

    wall: float
    cpu: float
    peak: int


def create_app() -> Flask:
    """Return the application whose commands are run: SQLite, fifty views."""
    app = Flask("portal", instance_path=os.environ[FOLDER])
    app.secret_key = "the benchmark's own"  # noqa: S105
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {"web_services": {}, "salesforce": SALESFORCE}}}
    GenesysAuth(app)
    for place in range(50):
        app.add_url_rule(f"/page/{place}", f"page{place}", unprotected(lambda: "page") if place % 2 else lambda: "page")
    return app


SALESFORCE = {"organizations": ["00D000000000001"]}


def flask(folder: Path, *command: str) -> Cost:
    """Run a command of Flask in its own process."""
    arguments = [sys.executable, "-m", "flask", "--app", "benchmarks.accounts_import", *command]
    return run(arguments, {**os.environ, FOLDER: str(folder)})


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a process to its end; one that fails ends the benchmark."""
    began = perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - its own command
            arguments, env=environment, cwd=Path(__file__).parents[1], stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(arguments)}: {said.read()[-2000:].decode(errors='replace')}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def people(rows: int, stored: str) -> Iterator[dict[str, str]]:
    """Yield rows as they stand in a CSV file."""
    for place in range(rows):
        yield {
            "contact_center": "acme",
            "user_name": f"agent{place}@acme.example",
            "first_name": f"First{place}",
            "last_name": f"Last{place}",
            "roles": "ROLE_AGENT",
            "password_hash": stored,
            "identities": f"salesforce=00D000000000001/005{place:012}",
        }


def write_csv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write a CSV file row by row: Linux counts the peak memory of this process for the processes that it starts."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write the same as JSON."""
    with path.open("w", encoding="utf-8") as file:
        border = "["
        for row in rows:
            linked = dict([row["identities"].split("=", 1)])
            file.write(border + "\n" + json.dumps({**row, "roles": [row["roles"]], "identities": linked}))
            border = ","
        file.write("\n]\n")


def measure_import(folder: Path, rows: int) -> dict[str, Cost]:
    """Import the same rows from CSV and from JSON, each into its own tables."""
    found = {}
    stored = PasswordHasher(PasswordSettings()).hash("correct horse")
    writers: dict[str, Callable[[Path, Iterable[dict[str, str]]], None]] = {"csv": write_csv, "json": write_json}
    for kind, write in writers.items():
        own = folder / kind
        own.mkdir()
        write(own / f"people.{kind}", people(rows, stored))
        flask(own, "genesys-auth", "init-db")
        found[kind] = flask(own, "genesys-auth", "accounts", "import", str(own / f"people.{kind}"))
    return found


def measure_hash(times: int = 20) -> float:
    """Return the seconds that hashing one password takes under the default parameters (the median)."""
    hasher = PasswordHasher(PasswordSettings())
    taken = []
    for _ in range(times):
        began = perf_counter()
        hasher.hash("correct horse")
        taken.append(perf_counter() - began)
    return statistics.median(taken)


def measure_start(folder: Path, rounds: int) -> tuple[float, float]:
    """Return the processor's seconds of ``flask routes`` and ``flask genesys-auth endpoints``, by turns (medians)."""
    routes, endpoints = [], []
    for _ in range(rounds):
        routes.append(flask(folder, "routes").cpu)
        endpoints.append(flask(folder, "genesys-auth", "endpoints").cpu)
    return statistics.median(routes), statistics.median(endpoints)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the import of accounts and the start of commands.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10, help="of the two commands that are compared")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        routes, endpoints = measure_start(folder, chosen.rounds)
        imports = measure_import(folder, chosen.rows)
    figures = {
        "rows": chosen.rows,
        "hash_milliseconds": 1000 * measure_hash(),
        "start_ratio": endpoints / routes,
        "routes_seconds": routes,
        "endpoints_seconds": endpoints,
        "imports": {
            kind: {"rows_per_second": chosen.rows / cost.wall, "peak_mebibytes": cost.peak / 2**20}
            for kind, cost in imports.items()
        },
    }
    print(json.dumps(figures, indent=2) if chosen.json else told(figures))
    met = endpoints / routes <= MOST_START and imports["csv"].peak <= MOST_MEBIBYTES * 2**20
    return 0 if met else 1


def told(figures: dict[str, object]) -> str:
    """Return the figures for people."""
    lines = [f"flask genesys-auth endpoints: {figures['start_ratio']:.2f} x flask routes (target <= {MOST_START})"]
    imports = figures["imports"]
    assert isinstance(imports, dict)
    for kind, cost in imports.items():
        target = f" (target <= {MOST_MEBIBYTES})" if kind == "csv" else ""
        lines.append(
            f"import of {figures['rows']} rows of {kind}: {cost['rows_per_second']:.0f} rows/s, "
            f"peak {cost['peak_mebibytes']:.0f} MiB{target}"
        )
    lines.append(f"hashing one password besides, where rows have them in clear: {figures['hash_milliseconds']:.1f} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
