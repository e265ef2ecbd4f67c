"""``python -m flask_genesys_auth.testing identity-provider`` in a shell."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

COMMAND = [sys.executable, "-u", "-m", "flask_genesys_auth.testing", "identity-provider"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as made:
        assert made.stdout is not None
        try:
            yield made, [made.stdout.readline() for _ in range(3)]
        finally:
            made.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_prints_its_address_and_stops_on_signals(tmp_path: Path, stop: signal.Signals) -> None:
    file = tmp_path / "idp.xml"
    with running("--port", "0", "--user", "ann@acme.example", "--metadata", str(file)) as (process, said):
        address = re.fullmatch(r"The identity provider is running at (http://localhost:\d+)/\n", said[0])
        assert address is not None, said
        assert said[1] == f"Its metadata are at {address[1]}/metadata and in {file}\n"
        served = urllib3.request("GET", f"{address[1]}/metadata", retries=False).data.decode()
        assert served == file.read_text("utf-8")
        assert f'entityID="{address[1]}/metadata"' in served
        process.send_signal(stop)
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_without_an_option_no_file_is_written() -> None:
    with running("--port", "0", "--user", "ann", "--host", "127.0.0.1") as (_, said):
        assert said[0].startswith("The identity provider is running at http://127.0.0.1:")
        assert said[1].endswith("/metadata\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "ann", "--port", "0", "--metadata", "/nowhere/idp.xml"], "/nowhere/idp.xml: cannot be written"),
        (["--user", "ann", "--host", "0.0.0.0"], "'localhost', '127.0.0.1'"),
        (["--port", "0"], "--user"),
    ],
    ids=["file", "host", "no user"],
)
def test_errors_are_printed(arguments: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr
