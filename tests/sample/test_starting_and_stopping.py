"""A clean stop, and one plain sentence for each failed start."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sample_app.__main__ import main
from sample_app.server import is_loopback

from .asking import ask_like_curl
from .running import PATIENCE, RunningSample, run, running_sample, start


def listens(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port or 0)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: int) -> None:
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


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output, errors = run("--port", str(port))

    assert status == 1
    assert output == ""
    assert errors == (
        f"sample_app: Port {port} of 127.0.0.1 is in use by another program; "
        "stop it, or choose another port with --port.\n"
    )


def test_a_foreign_host_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "192.0.2.1", "--port", "0", "--config", str(tmp_path / "none.toml")]) == 1
    errors = capsys.readouterr().err

    assert errors.startswith("sample_app: Port 0 of 192.0.2.1 cannot be opened: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "portal.acme.example"])
def test_the_demonstration_stays_on_loopback(capsys: pytest.CaptureFixture[str], host: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--host", host, "--port", "0"])

    assert ended.value.code == 2
    assert "runs on loopback only" in capsys.readouterr().err
    assert all(is_loopback(other) for other in ("127.0.0.1", "127.0.0.2", "::1", "localhost"))


@pytest.mark.parametrize(("host", "provider"), [("localhost", "127.0.0.1"), ("[::1]", "localhost")])
def test_its_identity_provider_is_always_another_site(tmp_path: Path, host: str, provider: str) -> None:
    with running_sample(tmp_path, "--host", host.strip("[]")) as running:
        assert running.url.startswith(f"http://{host}:")
        assert running.ready["addresses"]["identity_provider"].startswith(f"http://{provider}:")
        assert ask_like_curl(running.ready["curl"]["web_services"]).json["authenticated"] is True


@pytest.mark.parametrize("port", ["-1", "65536", "http", "5000.0"])
def test_a_port_is_a_number(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])

    assert ended.value.code == 2
    assert "is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["nowhere/ready.json", "folder"])
def test_an_unwritable_ready_file_is_reported_first(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    wanted = tmp_path / place
    status, output, errors = run("--port", "0", "--ready-file", str(wanted))

    assert (status, output) == (1, "")
    assert errors.startswith(f"sample_app: {wanted}: cannot be written (")
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_ctrl_c_during_the_start_prints_no_traceback() -> None:
    process = start("--port", "0", environment={"PYTHONVERBOSE": "1"})
    assert process.stderr is not None
    # The extension is imported after the signals are listened to, and long before anything runs.
    assert any("flask_genesys_auth/errors" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors


BAD = {
    "missing.toml": (None, "cannot be read"),
    "broken.toml": ("SECRET_KEY = ", "broken.toml: "),
    "list.json": ("[]", "must contain a table of settings"),
    "empty.toml": ("", "GENESYS_AUTH"),
    "unknown.toml": (
        'SECRET_KEY = "x"\n[GENESYS_AUTH]\npublic_ulr = "http://127.0.0.1:5000"\n[GENESYS_AUTH.contact_centers.acme]\n',
        "public_url",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    text, finding = BAD[name]
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    handler = signal.getsignal(signal.SIGINT)
    assert main(["--port", "0", "--config", str(path)]) == 2

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("sample_app: ")
    assert finding in errors
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_missing_configuration_is_status_2(tmp_path: Path) -> None:
    status, output, errors = run("--port", "0", "--config", str(tmp_path / "missing.toml"))

    assert (status, output) == (2, "")
    assert errors == f"sample_app: {tmp_path / 'missing.toml'}: cannot be read (No such file or directory)\n"
