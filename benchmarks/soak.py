"""Run mixed load over two nodes for minutes: memory and open files of each worker must not grow.

Run ``python -m benchmarks.soak --minutes 4``. It starts nginx, two gunicorn nodes by ``deploy/``, PostgreSQL, Redis,
emulators of Salesforce and Genesys, and an identity provider on loopback. The visitors of ``tests/nodes`` count wrong
decisions, lost logins and undocumented answers; they use all steps, SAML included.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.nodes.crowd import crowd, load, saml_crowd
from tests.nodes.deployment import Deployment, Outside, Servers, open_files
from tests.nodes.load import Tally
from tests.servers import RedisServer, running_postgresql

GROWTH = 1.03
"""The highest ratio of memory at the end and in the second fifth; smaller changes come from the allocator."""
FILES = 3
"""Open files that there may be more of: how many connections are idle at a moment differs."""


@dataclass(frozen=True)
class Series:
    """The samples of one worker.

    :param resident: bytes.
    :param files: open descriptors.
    """

    worker: str
    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    @property
    def level(self) -> bool:
        """Return whether neither has grown between the second and the last fifth."""
        (before, after), (opened, left) = fifths(self.resident), fifths(self.files)
        return after <= before * GROWTH and left <= opened + FILES

    def __str__(self) -> str:
        (before, after), (opened, left) = fifths(self.resident), fifths(self.files)
        memory = f"{before / 2**20:.1f} -> {after / 2**20:.1f} MiB ({after / before:.3f})"
        return f"{self.worker}: {memory}, {opened:.0f} -> {left:.0f} open files"


def fifths(samples: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the second and of the last fifth."""
    fifth = len(samples) // 5
    return statistics.median(samples[fifth : 2 * fifth]), statistics.median(samples[-fifth:])


def watch(deployment: Deployment, seconds: float, *, pause: float, interval: float = 1.0) -> tuple[Tally, list[Series]]:
    """Load a deployment for so long, and look at its workers once in an interval.

    :param pause: seconds between the requests of one visitor.
    :param interval: seconds.
    """
    workers = {
        f"node {place} worker {pid}": pid for place, node in enumerate(deployment.nodes, 1) for pid in node.workers
    }
    series = {name: Series(name) for name in workers}
    visitors = [*crowd(deployment), *crowd(deployment, turns=5), *saml_crowd(deployment)]
    with load(deployment, visitors, pause=pause) as running:
        running.until_well()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, pid in workers.items():
                series[name].resident.append(resident(pid))
                series[name].files.append(len(open_files(pid)))
            time.sleep(interval)
    return running.tally, list(series.values())


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 0 if all workers are level and nothing was wrong, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--state", choices=["redis", "postgresql"], default="redis")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between the requests of one visitor")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        redis = RedisServer(folder, persistent=True)
        stack.callback(redis.stop)
        servers = Servers(stack.enter_context(running_postgresql()), redis)
        outside = stack.enter_context(Outside())
        portal = stack.enter_context(Deployment(folder, servers.stores(options.state), outside))
        tally, series = watch(portal, options.minutes * 60, pause=options.pause)
    for one in series:
        print(one, "" if one.level else "GROWS")
    print(tally.report())
    return 0 if all(one.level for one in series) and not (tally.wrong or tally.lost or tally.undocumented) else 1


if __name__ == "__main__":
    sys.exit(main())
