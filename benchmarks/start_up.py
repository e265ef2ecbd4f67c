"""Measure the start of an application beside Flask-Security: ``python -m benchmarks.start_up``.

Each start is a process that makes the application and exits: ours with a Redis state and accounts in SQLite,
Flask-Security with Flask-Session on Redis and users in SQLite. Neither connects to Redis. Both take turns; the results
are ratios of medians of CPU time and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.accounts_import import Cost, run
from benchmarks.load_apps import DATABASE, PLAN, SESSIONS

AT_MOST = 1.0
REDIS = "redis://127.0.0.1:6379/0"
OURS, PEER, BARE = "ours", "with_flask_security", "with_flask_login"


def start(factory: str, folder: Path) -> Cost:
    """Make an application of :mod:`benchmarks.load_apps` in its own process."""
    plan = {"base_path": str(folder), "state_url": REDIS, "contact_centers": {"acme": {"web_services": {}}}}
    servers = {PLAN: json.dumps(plan), DATABASE: f"sqlite:///{folder / 'users.sqlite3'}", SESSIONS: REDIS}
    environment = {**os.environ, **servers, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return run([sys.executable, "-c", f"from benchmarks import load_apps; load_apps.{factory}()"], environment)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of each application: milliseconds of the processor, and MiB at the peak."""
    costs: dict[str, list[Cost]] = {factory: [] for factory in (OURS, PEER, BARE)}
    with tempfile.TemporaryDirectory() as name:
        for factory in costs:
            start(factory, Path(name))  # compiles, and makes the tables
        for _ in range(rounds):
            for factory, found in costs.items():
                found.append(start(factory, Path(name)))
    return {
        factory: {
            "milliseconds": 1000 * statistics.median(cost.cpu for cost in found),
            "mebibytes": statistics.median(cost.peak for cost in found) / 2**20,
        }
        for factory, found in costs.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the start of an application beside Flask-Security.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    figures = measure(chosen.rounds)
    ratios = {what: figures[OURS][what] / figures[PEER][what] for what in ("milliseconds", "mebibytes")}
    if chosen.json:
        print(json.dumps({"figures": figures, "ratios": ratios}, indent=2))
    else:
        for factory, found in figures.items():
            print(f"{factory:20} {found['milliseconds']:7.0f} ms {found['mebibytes']:7.1f} MiB")
        for what, ratio in ratios.items():
            verdict = "met" if ratio <= AT_MOST else "MISSED"
            print(f"{what:20} {ratio:5.2f} x Flask-Security  target <= {AT_MOST:g}  {verdict}")
    return 0 if max(ratios.values()) <= AT_MOST else 1


if __name__ == "__main__":
    sys.exit(main())
