"""Certificates are verified, with real https servers on loopback."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.testing.server import RawServer
from flask_genesys_auth.upstream import Answer, Deadline, Upstream
from tests.certificates import make_certificate


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the name is Werkzeug's
        """Say nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextmanager
def serve_tls(certificate: Path) -> Iterator[int]:
    """Serve https with this certificate, and give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    @Request.application
    def answer(request: Request) -> Response:
        return Response("over TLS")

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    with serve_tls(certificate) as number:
        yield number


def get(client: Upstream, url: str, seconds: float = 10) -> Answer | Unavailable:
    outcome = client.send("GET", url, headers={}, deadline=Deadline(seconds))
    client.close()
    return outcome


def test_certificate_of_a_trusted_authority_is_accepted(port: int, certificate: Path) -> None:
    outcome = get(Upstream(certificates=certificate.read_text()), f"https://127.0.0.1:{port}/")
    assert isinstance(outcome, Answer)
    assert outcome.body == b"over TLS"


def test_self_signed_certificate_is_refused_before_sending(port: int) -> None:
    outcome = get(Upstream(), f"https://127.0.0.1:{port}/")
    assert isinstance(outcome, Unavailable)
    assert outcome.reason is Reason.UNREACHABLE
    assert "certificate is refused" in outcome.detail


def test_certificate_of_another_host_is_refused(port: int, certificate: Path) -> None:
    outcome = get(Upstream(certificates=certificate.read_text()), f"https://localhost:{port}/")
    assert isinstance(outcome, Unavailable)
    assert outcome.reason is Reason.UNREACHABLE
    assert "certificate is refused" in outcome.detail


@pytest.mark.parametrize("hold", [True, False])
def test_server_without_tls_is_unreachable(hold: bool) -> None:
    with RawServer([] if hold else [b"HTTP/1.1 400 Bad Request\r\n\r\n"], hold=hold) as server:
        outcome = get(Upstream(), server.url.replace("http://", "https://"), 0.3 if hold else 10)
    assert isinstance(outcome, Unavailable)
    assert outcome.reason is Reason.UNREACHABLE
    assert ("timed out" if hold else "TLS failed") in outcome.detail


def test_slow_handshake_ends_at_the_deadline() -> None:
    with RawServer([b"\x16\x03\x03\x10\x00", *[b"x"] * 500], interval=0.02) as server:
        outcome = get(Upstream(), server.url.replace("http://", "https://"), 0.4)
    assert isinstance(outcome, Unavailable)
    assert outcome.reason is Reason.UNREACHABLE
