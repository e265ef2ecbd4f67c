"""The HTTP client with real servers on loopback: its answers and failures."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.testing.server import Emulator, RawServer, unused_url
from flask_genesys_auth.upstream import MAX_BODY, Answer, Deadline, Upstream, printable

from .conftest import Switch

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


class Echo(Emulator):
    def respond(self, request: Request) -> Response:
        return Response(request.get_data() or b"fine")


@pytest.fixture
def echo(switch: Switch) -> Iterator[Echo]:
    with switch.to(Echo()) as emulator:
        yield emulator


def get(upstream: Upstream, url: str, seconds: float = 5) -> Answer | Unavailable:
    return upstream.send("GET", url, headers={}, deadline=Deadline(seconds))


def failed(outcome: Answer | Unavailable) -> Unavailable:
    assert isinstance(outcome, Unavailable), outcome
    return outcome


def answered(outcome: Answer | Unavailable) -> Answer:
    assert isinstance(outcome, Answer), outcome
    return outcome


def test_answer_has_status_headers_and_body(upstream: Upstream, echo: Echo) -> None:
    answer = answered(upstream.send("POST", echo.url, headers={"X-One": "1"}, body=b"a=b", deadline=Deadline(60)))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"a=b", "3")
    sent = echo.requests[-1]
    assert (sent.method, sent.headers["X-One"], sent.headers["Accept-Encoding"]) == ("POST", "1", "identity")


@pytest.mark.parametrize("status", [200, 204, 302, 400, 403, 404])
def test_answering_status_is_an_answer(upstream: Upstream, echo: Echo, status: int) -> None:
    echo.fail(status, headers={"Location": "http://127.0.0.1:1/"})
    assert answered(get(upstream, echo.url)).status == status
    assert len(echo.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_error_status_is_unavailable_without_retry(upstream: Upstream, echo: Echo, status: int) -> None:
    echo.fail(status, body="a word of theirs")
    outcome = failed(get(upstream, echo.url))
    assert (outcome.reason, outcome.retry_after) == (Reason.SERVER_ERROR, 5)
    assert str(status) in outcome.detail
    assert "theirs" not in outcome.detail
    assert len(echo.requests) == 1
    echo.repair()
    assert answered(get(upstream, echo.url)).body == b"fine"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("99999", 300),
        ("9" * 400, 300),
        ("-5", 5),
        ("soon", 5),
        ("", 5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1),
        ("Sun, 06 Nov 9994 08:49:37 -0000", 300),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", 5),
    ],
)
def test_retry_after_is_honoured_within_bounds(upstream: Upstream, echo: Echo, header: str, seconds: int) -> None:
    for status in (429, 503):
        echo.fail(status, headers={"Retry-After": header})
        assert failed(get(upstream, echo.url)).retry_after == seconds
    echo.fail(500, headers={"Retry-After": header})
    assert failed(get(upstream, echo.url)).retry_after == 5


def test_retry_after_may_be_a_date(upstream: Upstream, echo: Echo) -> None:
    echo.fail(503, headers={"Retry-After": format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100))})
    assert 90 <= failed(get(upstream, echo.url)).retry_after <= 100


def test_refused_connection_is_unreachable(upstream: Upstream) -> None:
    outcome = failed(get(upstream, unused_url()))
    assert (outcome.reason, outcome.detail) == (Reason.UNREACHABLE, "no connection: Connection refused")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "a..b"])
def test_unresolved_name_is_unreachable(upstream: Upstream, host: str) -> None:
    assert failed(get(upstream, f"http://{host}:81/")).reason is Reason.UNREACHABLE


def test_unaccepted_connection_ends_by_the_deadline(upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            waiting.append(filler)
        outcome = failed(get(upstream, f"http://127.0.0.1:{address[1]}/", 0.3))
        for filler in waiting:
            filler.close()
    assert outcome == Unavailable(Reason.UNREACHABLE, detail="no connection: timed out")


def test_of_several_addresses_a_living_one_is_found(
    upstream: Upstream, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(echo.url.rpartition(":")[2])
    unspecified = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    dead = int(unused_url().rpartition(":")[2])
    found = [(*unspecified, ("127.0.0.1", dead)), (9999, socket.SOCK_STREAM, 6, "", ("", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found, (*unspecified, ("127.0.0.1", port))])
    assert answered(get(upstream, echo.url)).body == b"fine"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert failed(get(Upstream(), echo.url)).reason is Reason.UNREACHABLE
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    assert failed(get(Upstream(), echo.url)).reason is Reason.UNREACHABLE


def test_no_answer_is_timed_out(upstream: Upstream, echo: Echo) -> None:
    echo.fail(hang=True)
    assert failed(get(upstream, echo.url, 1.0)).reason is Reason.TIMED_OUT
    echo.repair()
    assert answered(get(upstream, echo.url)).body == b"fine"


def test_passed_deadline_sends_nothing(upstream: Upstream, echo: Echo) -> None:
    assert failed(get(upstream, echo.url, 0)).reason is Reason.UNREACHABLE
    assert not echo.requests


def one_by_one(answer: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in answer]


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"X-Padding: " + b"x" * 1000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000,
        HEAD + b"\r\n" + b"x" * 1000,
    ],
    ids=["head", "body", "body without a length"],
)
def test_slow_bytes_end_at_the_deadline(upstream: Upstream, answer: bytes) -> None:
    with RawServer(one_by_one(answer), interval=0.02) as server:
        outcome = failed(get(upstream, server.url, 1))
    assert outcome.reason is Reason.TIMED_OUT


def test_slow_answer_within_the_deadline_counts(upstream: Upstream) -> None:
    with RawServer(one_by_one(HEAD + b"Content-Length: 2\r\n\r\nok"), interval=0.001) as server:
        assert answered(get(upstream, server.url, 30)).body == b"ok"


def test_one_deadline_counts_for_several_requests(upstream: Upstream, echo: Echo) -> None:
    deadline = Deadline(4)
    assert answered(upstream.send("GET", echo.url, headers={}, deadline=deadline)).status == 200
    echo.fail(hang=True)
    assert failed(upstream.send("GET", echo.url, headers={}, deadline=deadline)).reason is Reason.TIMED_OUT
    assert failed(upstream.send("GET", echo.url, headers={}, deadline=deadline)).reason is Reason.UNREACHABLE


def test_body_limit_is_exact(upstream: Upstream, echo: Echo) -> None:
    echo.fail(200, body=b"x" * MAX_BODY)
    assert len(answered(get(upstream, echo.url)).body) == MAX_BODY
    larger = upstream.send("GET", echo.url, headers={}, deadline=Deadline(60), max_body=MAX_BODY - 1)
    assert failed(larger).detail == f"the answer is larger than {MAX_BODY - 1} bytes"
    echo.fail(200, body=b"x" * (4 * MAX_BODY))
    whole = upstream.send("GET", echo.url, headers={}, deadline=Deadline(60), max_body=4 * MAX_BODY)
    assert len(answered(whole).body) == 4 * MAX_BODY
    echo.fail(200, body=b"x" * (MAX_BODY + 1))
    outcome = failed(get(upstream, echo.url))
    assert (outcome.reason, outcome.detail) == (Reason.UNREADABLE_ANSWER, f"the answer is larger than {MAX_BODY} bytes")


def test_endless_body_is_refused(upstream: Upstream) -> None:
    with RawServer([HEAD + b"\r\n", *[b"x" * 8192] * 64]) as server:
        assert failed(get(upstream, server.url)).reason is Reason.UNREADABLE_ANSWER


def test_endless_headers_are_not_read(upstream: Upstream) -> None:
    with RawServer([HEAD, *[b"X-More: " + b"x" * 60000 + b"\r\n"] * 80], hold=True) as server:
        assert failed(get(upstream, server.url)).reason is Reason.UNREADABLE_ANSWER


@pytest.mark.parametrize("coding", ["gzip", "X-GZIP", "deflate", "br", "gzip, gzip", "\x01" * 1000])
def test_encoded_answer_is_refused(upstream: Upstream, coding: str) -> None:
    body = gzip.compress(b"plain")
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body))
    with RawServer([head + body]) as server:
        outcome = failed(get(upstream, server.url))
    assert outcome.reason is Reason.UNREADABLE_ANSWER
    assert outcome.detail.startswith("the answer is encoded (")
    assert len(outcome.detail) < 120


@pytest.mark.parametrize("coding", ["", "identity", " IDENTITY "])
def test_answer_without_a_coding_is_read(upstream: Upstream, echo: Echo, coding: str) -> None:
    echo.fail(200, body=b"plain", headers={"Content-Encoding": coding})
    assert answered(get(upstream, echo.url)).body == b"plain"
    assert echo.requests[-1].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], Reason.SERVER_ERROR),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], Reason.UNREADABLE_ANSWER),
        ([HEAD + b"Content-Length: 100\r\n\r\n", b"broken off"], Reason.UNREADABLE_ANSWER),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhel"], Reason.UNREADABLE_ANSWER),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nhello"], Reason.UNREADABLE_ANSWER),
        ([HEAD + b"Content-Length: 1, 2\r\n\r\n", b"ab"], Reason.UNREADABLE_ANSWER),
    ],
    ids=["nothing", "no HTTP", "cut", "cut chunk", "bad chunk", "two lengths"],
)
def test_broken_answer_is_unavailable(upstream: Upstream, pieces: list[bytes], reason: Reason) -> None:
    with RawServer(pieces) as server:
        assert failed(get(upstream, server.url)).reason is reason


def test_chunks_are_an_answer(upstream: Upstream) -> None:
    with RawServer([HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]) as server:
        assert answered(get(upstream, server.url)).body == b"hello"


def test_proxies_of_the_environment_are_not_used(
    upstream: Upstream, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, unused_url())
        monkeypatch.setenv(name.upper(), unused_url())
    monkeypatch.delenv("no_proxy", raising=False)
    assert answered(get(upstream, echo.url)).body == b"fine"


class KeepAlive:
    """A server that counts connections and keeps each one open."""

    def __init__(self) -> None:
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self) -> None:
        serving = []
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            self.connections += 1
            serving.append(threading.Thread(target=self.serve, args=(connection, self.connections), daemon=True))
            serving[-1].start()
        for thread in serving:
            thread.join()

    def serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            while connection.recv(65536):
                connection.sendall(HEAD + b"Content-Length: 1\r\n\r\n%d" % number)

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def test_connections_are_reused_until_they_are_closed(upstream: Upstream) -> None:
    server = KeepAlive()
    assert [answered(get(upstream, server.url)).body for _ in range(3)] == [b"1"] * 3
    upstream.close()
    assert [answered(get(upstream, server.url)).body for _ in range(2)] == [b"2"] * 2
    upstream.close()
    server.stop()


def test_concurrent_requests_keep_their_deadlines(upstream: Upstream, echo: Echo) -> None:
    echo.fail(hang=True, path="/hang")
    outcomes: dict[str, Answer | Unavailable] = {}

    def ask(path: str, seconds: float) -> None:
        outcomes[path] = get(upstream, echo.url + path, seconds)

    threads = [threading.Thread(target=ask, args=wanted) for wanted in (("/hang", 1), ("/one", 30), ("/two", 30))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed(outcomes["/hang"]).reason is Reason.TIMED_OUT
    assert answered(outcomes["/one"]).status == answered(outcomes["/two"]).status == http.client.OK


def test_printable_text_is_visible_and_bounded() -> None:
    assert printable("a\r\nb\x1b[31m\u202e c") == "a b [31m c"
    assert printable("x" * 500) == "x" * 117 + "..."
    assert printable("short") == "short"
