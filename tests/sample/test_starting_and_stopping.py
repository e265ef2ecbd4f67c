"""A clean stop, and one plain sentence for each way of not starting."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .running import RunningSample, run


def listens(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port or 0)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    running = RunningSample(tmp_path)
    addresses = running.ready["addresses"]
    assert set(addresses) == {"application", "salesforce", "genesys", "identity_provider"}
    assert all(listens(address) for address in addresses.values())
    assert list(running.temporary.iterdir())

    status, _, errors = running.stop(number)

    assert status == 0
    assert errors == ""
    assert not any(listens(address) for address in addresses.values())
    assert not list(running.temporary.iterdir())
    assert not running.ready_file.exists()


def test_a_taken_port_is_one_plain_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output, errors = run("--port", str(port))

    assert status == 1
    assert output == ""
    assert errors == (
        f"sample_app: Port {port} of 127.0.0.1 is taken by another program: "
        "stop that one, or choose another with --port.\n"
    )


def test_a_host_of_another_machine_is_one_plain_sentence(tmp_path: Path) -> None:
    status, _, errors = run("--host", "192.0.2.1", "--port", "0", "--config", str(tmp_path / "none.toml"))

    assert status == 1
    assert errors.startswith("sample_app: Port 0 of 192.0.2.1 cannot be had: ")
    assert errors.count("\n") == 1


def test_the_demonstration_stays_on_loopback() -> None:
    status, _, errors = run("--host", "0.0.0.0", "--port", "0")

    assert status == 2
    assert "stays on loopback" in errors


@pytest.mark.parametrize("port", ["-1", "65536", "http", "5000.0"])
def test_a_port_is_a_number(port: str) -> None:
    status, _, errors = run(f"--port={port}")

    assert status == 2
    assert "is no port" in errors


def test_a_ready_file_in_no_folder_is_one_plain_sentence(tmp_path: Path) -> None:
    status, _, errors = run("--port", "0", "--ready-file", str(tmp_path / "nowhere" / "ready.json"))

    assert status == 1
    assert errors.startswith("sample_app: ")
    assert errors.count("\n") == 1


BAD = {
    "missing.toml": (None, "cannot be read"),
    "broken.toml": ("SECRET_KEY = ", "broken.toml: "),
    "list.json": ("[]", "must hold a table of settings"),
    "empty.toml": ("", "GENESYS_AUTH"),
    "unknown.toml": (
        'SECRET_KEY = "x"\n[GENESYS_AUTH]\npublic_ulr = "http://127.0.0.1:5000"\n[GENESYS_AUTH.contact_centers.acme]\n',
        "public_url",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_says_what_is_wrong_with_it(tmp_path: Path, name: str) -> None:
    text, finding = BAD[name]
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    status, output, errors = run("--port", "0", "--config", str(path))

    assert status == 2
    assert output == ""
    assert errors.startswith("sample_app: ")
    assert finding in errors
    assert "Traceback" not in errors
