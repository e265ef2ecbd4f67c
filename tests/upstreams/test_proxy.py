"""Through a proxy: https only, by CONNECT, within the same limits, and verified against the server itself."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from marshmallow import ValidationError

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.config.addresses import Proxy, proxy_of
from flask_genesys_auth.config.settings import ConfigurationServer
from flask_genesys_auth.testing.server import RawServer, unused_url
from flask_genesys_auth.upstream import MAX_BODY, Deadline, Guard, Upstream, Upstreams, advice
from flask_genesys_auth.upstream.breaker import FAILURES
from tests.certificates import make_certificate

from .conftest import Switch
from .connect_proxy import ConnectProxy, TlsFront
from .test_forks import Greeter
from .test_upstream import HEAD, Echo, answered, failed, get, one_by_one

GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def echo(switch: Switch, certificate: Path) -> Iterator[Echo]:
    """An emulator behind TLS."""
    with switch.to(Echo()) as emulator, TlsFront(certificate, emulator.url) as front:
        emulator.url = front.url
        yield emulator


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy() as running:
        yield running


Make = Callable[..., Upstream]


@pytest.fixture
def by(certificate: Path) -> Iterator[Make]:
    """Make a client that goes through a proxy, and trusts the servers of these tests."""
    made = []

    def make(url: str, guard: Guard | None = None) -> Upstream:
        client = Upstream(proxy=proxy_of(url), certificates=certificate.read_text(), guard=guard)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def through(proxy: ConnectProxy, by: Make) -> Upstream:
    return by(proxy.url)


def test_tunnel_is_reused(through: Upstream, proxy: ConnectProxy, certificate: Path) -> None:
    server = Greeter(certificate)
    assert [answered(get(through, f"{server.url}/one")).body for _ in range(3)] == [b"1 /one"] * 3
    through.close()
    server.stop()
    target = server.url.removeprefix("https://")
    (head,) = proxy.heads
    assert re.fullmatch(rf"CONNECT {target} HTTP/1\.[01]", head.splitlines()[0])
    assert "\r\nUser-Agent: flask-genesys-auth\r\n" in head
    assert b"/one" not in proxy.seen


def test_certificate_of_the_server_is_verified(through: Upstream, proxy: ConnectProxy, echo: Echo) -> None:
    secret = {"Authorization": "Bearer s3cret"}
    assert answered(through.send("GET", echo.url, headers=secret, deadline=Deadline(60))).body == b"fine"
    port = echo.url.rpartition(":")[2]
    refused = failed(get(through, f"https://localhost:{port}/", 60))
    assert (refused.reason, "certificate is refused" in refused.detail) == (Reason.UNREACHABLE, True)
    assert proxy.targets == [f"127.0.0.1:{port}", f"localhost:{port}"]
    assert b"s3cret" not in proxy.seen
    assert "s3cret" not in "".join(proxy.heads)


def test_server_of_an_unknown_authority_is_refused(proxy: ConnectProxy, echo: Echo) -> None:
    client = Upstream(proxy=proxy_of(proxy.url))
    assert "certificate is refused" in failed(get(client, echo.url, 60)).detail
    client.close()
    assert not echo.requests


def test_only_the_proxy_gets_its_credentials(by: Make, echo: Echo) -> None:
    with ConnectProxy(authorization="Basic dXM6cDpAL8Ok") as proxy:
        url = f"http://us:p:%40%2F%c3%a4@127.0.0.1:{proxy.port}"
        assert answered(get(by(url), echo.url, 60)).body == b"fine"
        assert "Proxy-Authorization" not in echo.requests[-1].headers
        refused = failed(get(by(f"http://us:wrong@127.0.0.1:{proxy.port}"), echo.url, 60))
        assert (refused.reason, refused.detail) == (
            Reason.UNREACHABLE,
            "no connection: the proxy refuses with HTTP 407",
        )
        assert failed(get(by(proxy.url), echo.url, 60)).detail == refused.detail
    assert len(echo.requests) == 1


def test_server_behind_proxy_is_unreachable(through: Upstream, echo: Echo) -> None:
    refused = failed(get(through, unused_url().replace("http:", "https:"), 60))
    assert (refused.reason, refused.detail) == (Reason.UNREACHABLE, "no connection: the proxy refuses with HTTP 502")
    assert answered(get(through, echo.url, 60)).body == b"fine"


@pytest.mark.parametrize(
    ("pieces", "finding"),
    [
        ([], "the proxy did not open a tunnel, RemoteDisconnected"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "the proxy did not open a tunnel, BadStatusLine"),
        ([b"HTTP/1.1 2000 OK\r\n\r\n"], "the proxy did not open a tunnel, BadStatusLine"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"x" * 60000 + b"\r\n"] * 9], "its answer exceeds the size limit"),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "the proxy refuses with HTTP 101"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "the proxy refuses with HTTP 204"),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"], "the proxy refuses with HTTP 302"),
        ([b"HTTP/1.0 403 \x1b[31mNo\r\n\r\n"], "the proxy refuses with HTTP 403"),
    ],
    ids=["nothing", "no HTTP", "no status", "endless", "101", "204", "302", "403"],
)
def test_failed_tunnel_is_a_proxy_error(by: Make, pieces: list[bytes], finding: str) -> None:
    with RawServer(pieces) as server:
        outcome = failed(get(by(server.url), "https://behind.example/", 60))
    assert outcome.reason is Reason.UNREACHABLE
    assert outcome.detail.startswith("no connection: the proxy ")
    assert outcome.detail.endswith(finding)


def test_incomplete_proxy_head_is_unreachable(by: Make) -> None:
    with RawServer([b"HTTP/1.1 200 OK\r\n"]) as server:
        assert failed(get(by(server.url), "https://behind.example/", 60)).reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-One: 1\r\n\r\n", b"HTTP/1.1 200 OK\n\n"]
)
def test_200_makes_a_tunnel(by: Make, echo: Echo, answer: bytes) -> None:
    with ConnectProxy(answer=answer) as proxy:
        assert answered(get(by(proxy.url), echo.url, 60)).body == b"fine"


def test_proxys_answer_is_not_the_servers(by: Make, echo: Echo) -> None:
    with ConnectProxy(answer=GRANTED + HEAD + b"Content-Length: 2\r\n\r\nok") as proxy:
        outcome = get(by(proxy.url), echo.url, 60)
    # It is left out with the head, or taken for TLS; it is never the server's answer.
    assert isinstance(outcome, Unavailable) or outcome.body == b"fine"


def test_proxy_failures_do_not_open_the_circuit(by: Make, proxy: ConnectProxy, echo: Echo) -> None:
    guard = Guard()
    down = by(unused_url(), guard)
    for _ in range(2 * FAILURES):
        assert failed(get(down, echo.url, 60)) == Unavailable(
            Reason.UNREACHABLE, detail="no connection: the proxy is not reached, Connection refused"
        )
    refusing = by(proxy.url, guard)
    for _ in range(2 * FAILURES):
        assert failed(get(refusing, unused_url().replace("http:", "https:"), 60)).reason is Reason.UNREACHABLE
    assert answered(get(refusing, echo.url, 60)).body == b"fine"


def test_failure_behind_the_proxy_opens_the_circuit(through: Upstream, echo: Echo) -> None:
    echo.fail(500)
    for _ in range(FAILURES):
        assert failed(get(through, echo.url, 60)).reason is Reason.SERVER_ERROR
    assert failed(get(through, echo.url, 60)).reason is Reason.CIRCUIT_OPEN


@pytest.mark.parametrize("kind", ["hanging", "dripping"])
def test_slow_proxy_ends_at_the_deadline(by: Make, kind: str) -> None:
    pieces = one_by_one(GRANTED[:-2] + b"X-Padding: " + b"x" * 1000) if kind == "dripping" else []
    with RawServer(pieces, interval=0.02, hold=True) as server:
        outcome = failed(get(by(server.url), "https://behind.example/", 2))
    assert outcome.reason is Reason.UNREACHABLE
    assert outcome.detail.startswith("no connection: the proxy ")
    assert outcome.detail.endswith(", timed out")


def test_slow_handshake_through_proxy_ends_in_time(through: Upstream) -> None:
    with RawServer([b"\x16\x03\x03\x10\x00", *[b"x"] * 500], interval=0.02) as server:
        outcome = failed(get(through, server.url.replace("http:", "https:"), 2))
    assert outcome == Unavailable(Reason.UNREACHABLE, detail="no connection: timed out")


def test_behind_a_proxy_the_bounds_are_the_same(through: Upstream, echo: Echo, certificate: Path) -> None:
    drip = one_by_one(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)
    with RawServer(drip, interval=0.02) as server, TlsFront(certificate, server.url) as front:
        assert failed(get(through, front.url, 2)).reason is Reason.TIMED_OUT
    with RawServer([HEAD + b"\r\n", *[b"x" * 8192] * 64]) as server, TlsFront(certificate, server.url) as front:
        assert failed(get(through, front.url, 60)).detail == f"the answer is larger than {MAX_BODY} bytes"
    echo.fail(200, body=b"x" * MAX_BODY)
    assert len(answered(get(through, echo.url, 60)).body) == MAX_BODY


def test_ipv6_target_keeps_its_brackets(through: Upstream, proxy: ConnectProxy) -> None:
    assert failed(get(through, "https://[::1]:9/")).detail.endswith("HTTP 502")
    assert proxy.targets == ["[::1]:9"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "HTTP://behind.example/"])
def test_plain_http_is_not_sent_to_a_proxy(through: Upstream, proxy: ConnectProxy, url: str) -> None:
    for _ in range(2 * FAILURES):
        outcome = failed(get(through, url))
    assert outcome.reason is Reason.UNREACHABLE
    assert outcome.detail.endswith(" is not https, and proxy is for https only")
    assert advice(outcome.detail) == "use https there, or remove proxy"
    assert not proxy.heads


def test_step_uses_the_proxy_of_its_settings(proxy: ConnectProxy, echo: Echo, certificate: Path) -> None:
    settings = ConfigurationServer(
        url=echo.url, ca_file=certificate.read_text(), proxy=proxy_of(proxy.url), concurrent_calls=1
    )
    upstreams = Upstreams()
    client = upstreams.of(settings)
    assert upstreams.of(replace(settings, proxy=proxy_of(proxy.url))) is client
    assert upstreams.of(replace(settings, proxy=None)) is not client
    assert answered(get(client, echo.url, 60)).body == b"fine"
    assert proxy.targets == [echo.url.removeprefix("https://")]
    visit = client.visit(echo.url, Deadline(60))
    assert not isinstance(visit, Unavailable)
    with visit:
        assert failed(get(client, echo.url, 60)).reason is Reason.UPSTREAM_BUSY
    assert answered(get(client, echo.url, 60)).status == 200
    client.close()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://proxy.acme.example:3128", "proxy.acme.example", 3128),
        ("HTTP://Proxy:8080/", "proxy", 8080),
        ("http://[::1]:3128", "::1", 3128),
    ],
)
def test_proxy_url_is_parsed(text: str, host: str, port: int) -> None:
    found = proxy_of(text)
    assert (found.host, found.port, found.authorization) == (host, port, None)


def test_credentials_of_a_proxy_do_not_show() -> None:
    found = proxy_of("http://us:s3cret@proxy:3128")
    assert found.authorization is not None
    assert found.authorization.reveal() == "Basic dXM6czNjcmV0"
    assert str(found) == "http://proxy:3128"
    assert not re.search(r"s3cret|czNjcmV0", f"{found!r}{found}")
    assert found != proxy_of("http://us:another@proxy:3128")
    assert proxy_of("http://us@proxy:1") != proxy_of("http://proxy:1") == Proxy("proxy", 1)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("https://proxy:3128", "must be http://host:port, or http://user:password@host:port"),
        ("proxy:3128", "must be http://host:port"),
        ("socks5://proxy:1080", "must be http://host:port"),
        ("http://proxy", "the port is missing"),
        ("http://proxy:0", "must be http://host:port"),
        ("http://:3128", "must be http://host:port"),
        ("http://proxy:3128/path", "must be http://host:port"),
        ("http://proxy:3128?query", "must be http://host:port"),
        ("http://us:s3cret/@proxy:3128", "must be http://host:port"),
        ("http://us:s3cret@more@proxy:3128", "must be http://host:port"),
        ("http://us:s3cret%zz@proxy:3128", "must be http://host:port"),
        ("http://us:s3cret\r\nX: 1@proxy:3128", "must be http://host:port"),
        ("http://us:s3crét@proxy:3128", "must be http://host:port"),
        ("http://us:s3cret@pro xy:3128", "must be http://host:port"),
    ],
)
def test_invalid_proxy_url_is_not_quoted(text: str, finding: str) -> None:
    with pytest.raises(ValidationError) as caught:
        proxy_of(text)
    assert finding in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert "s3cr" not in str(caught.value.__cause__ or "")


def test_proxy_that_resets_is_unreachable(by: Make) -> None:
    def reset() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset)
        thread.start()
        # urllib3 takes a reset while a request goes out for an answer that may still be read: there is no socket yet.
        outcome = failed(get(by(f"http://127.0.0.1:{listener.getsockname()[1]}"), "https://behind.example/", 60))
        thread.join()
    assert outcome.reason is Reason.UNREACHABLE
    assert "the proxy did not open a tunnel, connection reset" in outcome.detail.lower()
