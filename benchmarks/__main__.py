"""Run all benchmarks of README.md, one after the other: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import get_context

from benchmarks import run

RUNS = {
    "requests": ["request_overhead"],
    "files": ["files_per_request"],
    "load": ["load", "--only", "peers", "--only", "latency", "--only", "memory"],
    "start": ["start_up"],
    "growth": ["state_growth"],
    "growth-4GB": ["state_growth", "--memory", "4GB"],
    "many": ["state_many", "--store", "Redis", "--store", "PostgreSQL"],
    "many-SQLite": ["state_many", "--store", "SQLite", "--many", "20000"],
    "saml": ["saml"],
    "import": ["accounts_import"],
    "ldap": ["ldap"],
    "soak": ["soak"],
}


def main(arguments: list[str] | None = None) -> int:
    """Run them; return the number of benchmarks that missed a target or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(RUNS)}")
    chosen = parser.parse_args(arguments).names or list(RUNS)
    if unknown := set(chosen) - set(RUNS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(RUNS)}")
    missed = 0
    for name in chosen:
        print(f"## {name}: python -m benchmarks.{' '.join(RUNS[name])}", flush=True)
        began = time.monotonic()
        process = get_context("spawn").Process(target=run, args=RUNS[name])
        process.start()
        process.join()
        missed += process.exitcode != 0
        print(f"## {name}: {time.monotonic() - began:.0f} s\n", flush=True)
    print(f"{missed} of {len(chosen)} missed a target or failed")
    return missed


if __name__ == "__main__":
    sys.exit(main())
