"""RedisState by TLS: values of every size, certificates, and a hung server."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state.redis import RedisState
from tests.certificates import make_certificate
from tests.servers import free_port, require, wait_for_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis that speaks nothing but TLS, and how it is named."""
    certificate = make_certificate(tmp_path)
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--save", "", "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate)]
    options += ["--tls-ca-cert-file", str(certificate), "--dir", str(tmp_path)]
    program = require("redis-server", "redis-server")
    running = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_server(running, port)
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}", running
    finally:
        running.kill()
        running.wait(30)


def test_values_come_back_whatever_their_size(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    store = RedisState(server[0], "one", 10.0)
    for size in (1, 16_000, 16_384, 70_000, 3_000_000):
        store.put("key", "x" * size, 60)
        assert store.get("key") == "x" * size
    store.close()


def test_a_certificate_of_another_name_is_refused(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    store = RedisState(server[0].replace("127.0.0.1", "localhost"), "one", 10.0)
    with pytest.raises(StateUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        store.get("key")
    store.close()


def test_a_hung_server_times_out(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, running = server
    store = RedisState(url, "one", 2.0)
    store.put("key", "value", 60)
    os.kill(running.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StateUnavailable, match="did not answer"):
        store.get("key")
    assert time.monotonic() - began < 20
    os.kill(running.pid, signal.SIGCONT)
    assert store.get("key") == "value"
    store.close()
