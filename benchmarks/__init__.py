"""Benchmarks: ratios of our figures and a peer's, measured in the same run."""

import sys
from importlib import import_module


def run(module: str, *options: str) -> None:
    """Run one benchmark and exit with its status."""
    sys.exit(import_module(f"benchmarks.{module}").main(list(options)))
