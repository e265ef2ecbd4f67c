"""``python -m sample_app`` as a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0


class RunningSample:
    """A running sample application.

    :param folder: takes the ready file.
    :param arguments: what stands behind ``python -m sample_app --port 0 --ready-file ...``.
    """

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.ready_file = folder / "ready.json"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.process = start(
            "--port",
            "0",
            "--ready-file",
            str(self.ready_file),
            *arguments,
            environment={**(environment or {}), "TMPDIR": str(self.temporary)},
        )
        self.ready = self._wait()
        self.url: str = self.ready["addresses"]["application"]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit status and what was written to both outputs."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            output, errors = self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        return self.process.returncode, output, errors

    def _wait(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while not self.ready_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError("\n".join(self.process.communicate()))
            time.sleep(0.02)
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``python -m sample_app``."""
    return subprocess.Popen(
        [sys.executable, "-m", "sample_app", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1,localhost", **(environment or {})},
    )


def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``python -m sample_app`` where it is expected to end by itself."""
    process = start(*arguments)
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output, errors


@contextmanager
def running_sample(folder: Path, *arguments: str) -> Iterator[RunningSample]:
    """Run the sample application meanwhile, and make sure that it ends cleanly; refusals it may have logged."""
    running = RunningSample(folder, *arguments)
    try:
        yield running
    finally:
        status, _, errors = running.stop()
    assert status == 0, errors
    assert "Traceback" not in errors
