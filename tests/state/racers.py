"""Callers that start one operation at the same time: threads, or (run as a program) processes."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from flask_genesys_auth.chain.protocols import StateStore


def _delete_all(store: StateStore, term: str) -> int:
    count = 0
    while gone := store.delete_found(term):
        count += gone
    return count


OPERATIONS: dict[str, Callable[[StateStore, int], Any]] = {
    "add": lambda store, racer: store.add("contested", racer, 600),
    "take": lambda store, racer: store.take("contested"),
    "delete": lambda store, racer: store.delete("contested"),
    "delete_found": lambda store, _: store.delete_found("term"),
    "touch_or_delete_found": lambda store, racer: (
        [store.replace(f"key-{number}", racer, 600) for number in range(40)] if racer else _delete_all(store, "term")
    ),
    "replace_or_delete": lambda store, racer: (
        store.replace("contested", racer, 600) if racer else store.delete("contested")
    ),
}


def race_threads(store: StateStore, operation: str, racers: int) -> list[Any]:
    """Run the operation in threads on one store; return ``[racer, result]`` of each."""
    barrier = threading.Barrier(racers)
    results: list[Any] = []

    def run(racer: int) -> None:
        barrier.wait()
        results.append([racer, OPERATIONS[operation](store, racer)])

    threads = [threading.Thread(target=run, args=(racer,)) for racer in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def race_processes(make_store: Callable[[], StateStore], operation: str, racers: int, *, inherit: bool) -> list[Any]:
    """Run the operation in forked processes, each with a store of its own or with the one it inherits."""
    inherited = make_store() if inherit else None
    if inherited is not None:
        inherited.get("anything")
    started_read, started_write = os.pipe()
    result_read, result_write = os.pipe()
    children = []
    for racer in range(racers):
        child = os.fork()
        if child == 0:
            os.close(started_write)
            os.read(started_read, 1)  # returns when the parent, and all siblings before, have closed the other end
            store = inherited or make_store()
            line = json.dumps([racer, OPERATIONS[operation](store, racer)]) + "\n"
            os.write(result_write, line.encode())
            store.close()
            os._exit(0)
        children.append(child)
    os.close(started_write)
    os.close(result_write)
    with os.fdopen(result_read) as lines:
        results = [json.loads(line) for line in lines]
    os.close(started_read)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    if inherited is not None:
        # The parent's own connection still works after all that.
        inherited.get("anything")
        inherited.close()
    if failed:
        raise SystemExit(f"{len(failed)} racers failed")
    return results


def main(order: dict[str, Any]) -> None:
    """Do as ordered: ``store`` ("module:Class"), ``arguments``, ``operation``, ``racers``, ``inherit``."""
    module, _, name = order["store"].partition(":")
    make = getattr(importlib.import_module(module), name)
    results = race_processes(
        lambda: make(*order["arguments"]), order["operation"], order["racers"], inherit=order["inherit"]
    )
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
