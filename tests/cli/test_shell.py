"""Commands in a shell: closed pipes, full devices, interrupts, no terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

PORTAL = """
from flask import Flask
from flask_genesys_auth import GenesysAuth

def create_app():
    app = Flask("portal", instance_path={folder!r})
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {{"contact_centers": {{"acme": {{"web_services": {{}}}}}}}}
    GenesysAuth(app)
    return app
"""
PATIENCE = 60
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    (tmp_path / "portal.py").write_text(PORTAL.format(folder=str(tmp_path)))
    command = [sys.executable, "-m", "flask", "--app", "portal", "genesys-auth"]

    def started(*args: str, stdout: int | IO[Any] = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *args],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            # A test that runs in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    made = started("init-db")
    assert (made.communicate(timeout=PATIENCE)[1], made.returncode) == ("", 0)
    return started


def rows(folder: Path, count: int, *, password: str = "") -> str:
    file = folder / "accounts.csv"
    lines = [f"acme,agent{number}@acme.example,{password}" for number in range(count)]
    file.write_text("\n".join(["contact_center,user_name,password", *lines]))
    return str(file)


def accounts(start: Start) -> int:
    output, errors = start("accounts", "list").communicate(timeout=PATIENCE)
    assert errors == ""
    return len(output.splitlines()) - 1


def has_put_aside(process: int) -> bool:
    """Return whether it has the file without a name in which hashed rows wait."""
    try:
        return any(str(file.readlink()).endswith("(deleted)") for file in Path(f"/proc/{process}/fd").iterdir())
    except FileNotFoundError:
        return False


def test_a_closed_pipe_is_not_an_error(start: Start, tmp_path: Path) -> None:
    start("accounts", "import", rows(tmp_path, 1500)).communicate(timeout=PATIENCE)
    listing = start("accounts", "list")
    assert listing.stdout is not None
    assert listing.stderr is not None
    assert listing.stdout.readline().startswith("CONTACT CENTER")
    listing.stdout.close()
    assert listing.stderr.read() == ""
    listing.stderr.close()
    listing.wait(PATIENCE)
    assert accounts(start) == 1500


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_output_device_is_one_line(start: Start) -> None:
    with Path("/dev/full").open("w") as full:
        listing = start("accounts", "list", stdout=full)
        _, errors = listing.communicate(timeout=PATIENCE)
    assert (listing.returncode, errors) == (1, "Error: No space left on device\n")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux has it")
def test_an_interrupted_import_writes_nothing(start: Start, tmp_path: Path) -> None:
    importing = start("accounts", "import", rows(tmp_path, 2000, password="a long password"))
    end = time.monotonic() + PATIENCE
    while not has_put_aside(importing.pid) and time.monotonic() < end:
        time.sleep(0.05)
    importing.send_signal(signal.SIGINT)
    output, errors = importing.communicate(timeout=PATIENCE)
    assert (importing.returncode, output, errors.strip()) == (1, "", "Aborted!")
    assert accounts(start) == 0


def test_without_a_terminal_revoke_names_the_option(start: Start) -> None:
    revoking = start("sessions", "revoke", "--session", "x")
    _, errors = revoking.communicate(timeout=PATIENCE)
    assert revoking.returncode == 1
    assert errors.splitlines()[-1] == "Error: standard input is not a terminal; use --yes"
