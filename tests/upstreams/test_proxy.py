"""Through a proxy: by CONNECT alone, within the same bounds, and verified against the server behind it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from marshmallow import ValidationError

from flask_genesys_auth.chain.decision import Reason, Unavailable
from flask_genesys_auth.config.addresses import Proxy, proxy_of
from flask_genesys_auth.config.settings import ConfigurationServer
from flask_genesys_auth.testing.faults import RawServer, unused_url
from flask_genesys_auth.upstream import MAX_BODY, Answer, Deadline, Upstream, Upstreams
from flask_genesys_auth.upstream.breaker import FAILURES
from tests.certificates import make_certificate

from .conftest import Switch
from .connect_proxy import ConnectProxy
from .test_tls import serve_tls
from .test_upstream import HEAD, Echo, KeepAlive, answered, failed, get, one_by_one

GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
def echo(switch: Switch) -> Iterator[Echo]:
    with switch.to(Echo()) as emulator:
        yield emulator


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    with serve_tls(certificate) as number:
        yield number


@pytest.fixture
def through(proxy: ConnectProxy) -> Iterator[Upstream]:
    client = Upstream(proxy=proxy_of(proxy.url))
    yield client
    client.close()


def by(url: str, target: str, *, seconds: float = 60) -> Answer | Unavailable:
    client = Upstream(proxy=proxy_of(url))
    outcome = get(client, target, seconds)
    client.close()
    return outcome


def test_every_request_goes_through_a_tunnel_that_is_used_again(through: Upstream, proxy: ConnectProxy) -> None:
    server = KeepAlive()
    assert [answered(get(through, server.url)).body for _ in range(3)] == [b"1"] * 3
    through.close()
    server.stop()
    target = server.url.removeprefix("http://")
    (head,) = proxy.heads
    assert head == f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: flask-genesys-auth\r\n\r\n"
    assert proxy.seen.count(b"GET / HTTP/1.1") == 3


def test_the_certificate_is_that_of_the_server_behind_the_proxy(
    proxy: ConnectProxy, port: int, certificate: Path
) -> None:
    client = Upstream(proxy=proxy_of(proxy.url), certificates=certificate.read_text())
    answer = client.send(
        "GET", f"https://127.0.0.1:{port}/", headers={"Authorization": "Bearer s3cret"}, deadline=Deadline(60)
    )
    assert answered(answer).body == b"over TLS"
    refused = failed(get(client, f"https://localhost:{port}/", 60))
    assert (refused.reason, "certificate is refused" in refused.detail) == (Reason.UNREACHABLE, True)
    client.close()
    assert proxy.targets == [f"127.0.0.1:{port}", f"localhost:{port}"]
    assert b"s3cret" not in proxy.seen
    assert b"s3cret" not in "".join(proxy.heads).encode()


def test_without_the_authority_the_server_behind_the_proxy_is_refused(through: Upstream, port: int) -> None:
    assert "certificate is refused" in failed(get(through, f"https://127.0.0.1:{port}/", 60)).detail


def test_a_proxy_that_asks_for_credentials_gets_them_and_the_server_does_not(echo: Echo) -> None:
    with ConnectProxy(authorization="Basic dXM6cDpAL8Ok") as proxy:
        url = f"http://us:p:%40%2F%c3%a4@127.0.0.1:{proxy.port}"
        assert answered(by(url, echo.url)).body == b"fine"
        assert "Proxy-Authorization" not in echo.requests[-1].headers
        refused = failed(by(f"http://us:wrong@127.0.0.1:{proxy.port}", echo.url))
        assert (refused.reason, refused.detail) == (
            Reason.UNREACHABLE,
            "no connection: the proxy refuses with HTTP 407",
        )
        assert failed(by(proxy.url, echo.url)).detail == refused.detail
    assert len(echo.requests) == 1


def test_a_server_that_the_proxy_does_not_reach_is_unreachable(through: Upstream, echo: Echo) -> None:
    refused = failed(get(through, unused_url()))
    assert (refused.reason, refused.detail) == (Reason.UNREACHABLE, "no connection: the proxy refuses with HTTP 502")
    assert answered(get(through, echo.url)).body == b"fine"


@pytest.mark.parametrize(
    ("pieces", "finding"),
    [
        ([], "the proxy breaks off"),
        ([b"HTTP/1.1 200 OK\r\n"], "the proxy breaks off"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "the proxy answers no HTTP"),
        ([b"HTTP/1.1 2000 OK\r\n\r\n"], "the proxy answers no HTTP"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X-More: " + b"x" * 1000 + b"\r\n"] * 17], "the proxy's answer does not end"),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "the proxy refuses with HTTP 101"),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"], "the proxy refuses with HTTP 302"),
        ([b"HTTP/1.0 403 \x1b[31mNo\r\n\r\n"], "the proxy refuses with HTTP 403"),
    ],
    ids=["nothing", "cut", "no HTTP", "no status", "endless", "101", "302", "403"],
)
def test_a_proxy_that_makes_no_tunnel_is_told_apart(pieces: list[bytes], finding: str) -> None:
    with RawServer(pieces) as server:
        outcome = failed(by(server.url, "https://behind.example/"))
    assert outcome == Unavailable(Reason.UNREACHABLE, detail=f"no connection: {finding}")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 204 \r\nX-One: 1\r\n\r\n", b"HTTP/1.1 200 OK\n\n"]
)
def test_every_2xx_makes_a_tunnel(echo: Echo, answer: bytes) -> None:
    with ConnectProxy(answer=answer) as proxy:
        assert answered(by(proxy.url, echo.url)).body == b"fine"


def test_what_a_proxy_says_behind_its_answer_is_not_taken_for_a_trusted_servers(port: int, certificate: Path) -> None:
    with ConnectProxy(answer=GRANTED + HEAD + b"Content-Length: 2\r\n\r\nok") as proxy:
        client = Upstream(proxy=proxy_of(proxy.url), certificates=certificate.read_text())
        assert "TLS failed" in failed(get(client, f"https://127.0.0.1:{port}/", 60)).detail
        client.close()


def test_a_proxy_that_is_down_is_named_and_opens_the_circuit(echo: Echo) -> None:
    client = Upstream(proxy=proxy_of(unused_url()))
    for _ in range(FAILURES):
        outcome = failed(get(client, echo.url))
        assert outcome == Unavailable(
            Reason.UNREACHABLE, detail="no connection: the proxy is not reached, Connection refused"
        )
    assert failed(get(client, echo.url)).reason is Reason.CIRCUIT_OPEN
    assert not echo.requests


@pytest.mark.parametrize("kind", ["hanging", "dripping"])
def test_a_slow_proxy_ends_at_the_deadline(kind: str) -> None:
    pieces = one_by_one(GRANTED[:-2] + b"X-Padding: " + b"x" * 1000) if kind == "dripping" else []
    with RawServer(pieces, interval=0.02, hold=True) as server:
        outcome = failed(by(server.url, "https://behind.example/", seconds=2.0))
    assert outcome == Unavailable(Reason.UNREACHABLE, detail="no connection: not within the time allowed")


def test_behind_a_proxy_the_bounds_are_the_same(through: Upstream, echo: Echo) -> None:
    with RawServer(one_by_one(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000), interval=0.02) as server:
        assert failed(get(through, server.url, 0.4)).reason is Reason.TIMED_OUT
    with RawServer([HEAD + b"\r\n", *[b"x" * 8192] * 64]) as server:
        assert failed(get(through, server.url, 60)).detail == f"the answer is larger than {MAX_BODY} bytes"
    echo.fail(200, body=b"x" * MAX_BODY)
    assert len(answered(get(through, echo.url, 60)).body) == MAX_BODY


def test_an_ipv6_target_has_its_brackets(through: Upstream, proxy: ConnectProxy) -> None:
    assert failed(get(through, "http://[::1]:9/")).detail.endswith("HTTP 502")
    assert proxy.targets == ["[::1]:9"]


def test_a_step_goes_the_way_of_its_settings(proxy: ConnectProxy, port: int, certificate: Path) -> None:
    url = f"https://127.0.0.1:{port}"
    settings = ConfigurationServer(
        url=url, ca_file=certificate.read_text(), proxy=proxy_of(proxy.url), concurrent_calls=1
    )
    upstreams = Upstreams()
    client = upstreams.of(settings)
    assert upstreams.of(replace(settings, proxy=proxy_of(proxy.url))) is client
    assert upstreams.of(replace(settings, proxy=None)) is not client
    assert answered(get(client, url, 60)).body == b"over TLS"
    assert proxy.targets == [f"127.0.0.1:{port}"]
    visit = client.visit(url, Deadline(60))
    assert not isinstance(visit, Unavailable)
    with visit:
        assert failed(get(client, url, 60)).reason is Reason.UPSTREAM_BUSY
    assert answered(get(client, url, 60)).status == 200
    client.close()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://proxy.acme.example:3128", "proxy.acme.example", 3128),
        ("HTTP://Proxy:8080/", "proxy", 8080),
        ("http://[::1]:3128", "::1", 3128),
    ],
)
def test_the_address_of_a_proxy_is_taken_apart(text: str, host: str, port: int) -> None:
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
        ("https://proxy:3128", "must be http://host:port, or http://user:password@host:port: the proxy itself"),
        ("proxy:3128", "must be http://host:port"),
        ("socks5://proxy:1080", "must be http://host:port"),
        ("http://proxy", "has no port"),
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
def test_what_is_no_address_of_a_proxy_is_refused_and_not_quoted(text: str, finding: str) -> None:
    with pytest.raises(ValidationError) as caught:
        proxy_of(text)
    assert finding in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert "s3cr" not in str(caught.value.__cause__ or "")


def test_a_proxy_that_resets_the_connection_is_unreachable(certificate: Path, port: int) -> None:
    def reset() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # urllib3 takes a reset while a request goes out for an answer that may still be read: there is no socket yet.
        for target in (unused_url(), f"https://127.0.0.1:{port}/"):
            outcome = by(url, target)
            assert isinstance(outcome, Unavailable)
            assert outcome.reason is Reason.UNREACHABLE
            assert "no connection: connection reset" in outcome.detail.lower()
        thread.join()
