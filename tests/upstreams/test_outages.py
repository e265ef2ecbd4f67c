"""Outages of real servers on loopback: their cost, and the recovery."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.testing.server import Emulator, RawServer, unused_url
from flask_genesys_auth.upstream import Answer, Deadline, Guard, Upstream
from flask_genesys_auth.upstream.breaker import FAILURES, LONGEST_PAUSE

from .conftest import Switch
from .test_guard import MOST, Clock

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
BOUND = 3
CALLERS = 12


class Desk(Emulator):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def respond(self, request: Request) -> Response:
        assert self.open.wait(60)
        return Response("fine")


@pytest.fixture
def desk(switch: Switch) -> Iterator[Desk]:
    with switch.to(Desk()) as emulator:
        yield emulator
        emulator.open.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream(clock: Clock) -> Iterator[Upstream]:
    client = Upstream(guard=Guard(concurrent=BOUND, clock=clock))
    yield client
    client.close()


class Early(Deadline):
    """However slow this machine is: most of the time is left when the server is asked."""

    @property
    def half_left(self) -> bool:
        return True


class Late(Deadline):
    """Most of it is gone by then."""

    @property
    def half_left(self) -> bool:
        return False


def ask_by(upstream: Upstream, url: str, deadline: Deadline, part: str = "") -> Answer | Unavailable:
    return upstream.send("GET", url, headers={}, deadline=deadline, part=part)


def get(upstream: Upstream, url: str, seconds: float = 60, part: str = "") -> Answer | Unavailable:
    return ask_by(upstream, url, Deadline(seconds), part)


def reason(outcome: Answer | Unavailable) -> Reason | int:
    return outcome.status if isinstance(outcome, Answer) else outcome.reason


def bring_down(upstream: Upstream, url: str, seconds: float = 60) -> None:
    for _ in range(FAILURES):
        assert reason(ask_by(upstream, url, Early(seconds))) is not Reason.CIRCUIT_OPEN
    assert reason(get(upstream, url)) is Reason.CIRCUIT_OPEN


class Callers:
    """Threads that ask all at the same time."""

    def __init__(self, ask: Callable[[], Answer | Unavailable], count: int = CALLERS) -> None:
        self._outcomes: queue.Queue[Answer | Unavailable] = queue.Queue()
        self._start = threading.Barrier(count)
        self._threads = [threading.Thread(target=self._run, args=(ask,), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, ask: Callable[[], Answer | Unavailable]) -> None:
        self._start.wait(60)
        self._outcomes.put(ask())

    def outcomes(self, count: int) -> list[Reason | int]:
        """Return the next ones to arrive."""
        return [reason(self._outcomes.get(timeout=60)) for _ in range(count)]

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


def test_hung_server_holds_the_configured_calls(upstream: Upstream, desk: Desk) -> None:
    desk.open.clear()
    with RawServer([HEAD + b"Content-Length: 2\r\n\r\nok"]) as other:
        callers = Callers(lambda: get(upstream, desk.url))
        # The server has not answered any call yet.
        assert callers.outcomes(CALLERS - BOUND) == [Reason.UPSTREAM_BUSY] * (CALLERS - BOUND)
        assert reason(get(upstream, desk.url, part="another tenant")) is Reason.UPSTREAM_BUSY
        assert reason(get(upstream, other.url)) == 200
        desk.open.set()
        assert callers.outcomes(BOUND) == [200] * BOUND
    callers.join()
    assert len(desk.requests) == BOUND
    assert reason(get(upstream, desk.url)) == 200


def test_half_open_circuit_lets_one_call_through(upstream: Upstream, clock: Clock, desk: Desk) -> None:
    desk.fail(500)
    bring_down(upstream, desk.url)
    desk.repair()
    desk.requests.clear()
    desk.open.clear()
    clock.now += LONGEST_PAUSE * MOST
    callers = Callers(lambda: get(upstream, desk.url))
    assert callers.outcomes(CALLERS - 1) == [Reason.CIRCUIT_OPEN] * (CALLERS - 1)
    desk.open.set()
    assert callers.outcomes(1) == [200]
    callers.join()
    assert len(desk.requests) == 1
    assert [reason(get(upstream, desk.url)) for _ in range(3)] == [200] * 3


DRIPPING = [bytes([octet]) for octet in HEAD + b"X-Padding: " + b"x" * 2000]
FAILING: dict[str, tuple[Callable[[], RawServer], str, float]] = {
    "hanging": (lambda: RawServer(hold=True), "http", 0.1),
    "dripping": (lambda: RawServer(DRIPPING, interval=0.02), "http", 0.2),
    "breaking off": (lambda: RawServer([HEAD + b"Content-Length: 100\r\n\r\n", b"broken"]), "http", 60),
    "speaking another language": (lambda: RawServer([b"SSH-2.0-OpenSSH_9.2\r\n"]), "http", 60),
    "speaking no TLS": (lambda: RawServer([b"HTTP/1.1 400 Bad Request\r\n\r\n"]), "https", 60),
    "endless": (lambda: RawServer([HEAD + b"\r\n", *[b"x" * 8192] * 64]), "http", 60),
    "500": (lambda: RawServer([b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"]), "http", 60),
    "503": (lambda: RawServer([b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n"]), "http", 60),
}


@pytest.mark.parametrize("kind", FAILING)
def test_every_kind_of_failure_opens_the_circuit(upstream: Upstream, kind: str) -> None:
    make, scheme, seconds = FAILING[kind]
    with make() as server:
        url = server.url.replace("http:", f"{scheme}:")
        bring_down(upstream, url, seconds)
    # Stopped, it would refuse the connection: it is not even tried.
    assert reason(get(upstream, url)) is Reason.CIRCUIT_OPEN


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404])
def test_every_answer_is_health(upstream: Upstream, desk: Desk, status: int) -> None:
    for _ in range(2):
        desk.fail(500)
        for _ in range(FAILURES - 1):
            assert reason(get(upstream, desk.url)) is Reason.SERVER_ERROR
        desk.fail(status)
        assert reason(get(upstream, desk.url)) == status


@pytest.mark.parametrize("status", [408, 429])
def test_not_now_neither_counts_nor_forgives(upstream: Upstream, desk: Desk, status: int) -> None:
    desk.fail(status)
    for _ in range(2 * FAILURES):
        assert reason(get(upstream, desk.url)) is Reason.SERVER_ERROR
    desk.fail(500)
    for _ in range(FAILURES - 1):
        assert reason(get(upstream, desk.url)) is Reason.SERVER_ERROR
    desk.fail(status)
    assert reason(get(upstream, desk.url)) is Reason.SERVER_ERROR
    desk.fail(500)
    assert reason(get(upstream, desk.url)) is Reason.SERVER_ERROR
    assert reason(get(upstream, desk.url)) is Reason.CIRCUIT_OPEN


def test_spent_deadline_does_not_count_as_failure(upstream: Upstream, desk: Desk) -> None:
    for _ in range(2 * FAILURES):
        assert reason(get(upstream, desk.url, 0)) is Reason.UNREACHABLE
    assert reason(get(upstream, desk.url)) == 200
    assert len(desk.requests) == 1


def test_deadline_knows_when_half_is_left() -> None:
    assert Deadline(600).half_left
    short = Deadline(0.02)
    while short.half_left:
        threading.Event().wait(0.001)
    assert not Deadline(0).half_left


def test_timeout_counts_only_with_half_the_deadline(upstream: Upstream) -> None:
    with RawServer(hold=True) as server:
        for _ in range(2 * FAILURES):
            assert reason(ask_by(upstream, server.url, Late(0.1))) in {Reason.TIMED_OUT, Reason.UNREACHABLE}
        bring_down(upstream, server.url, 0.1)


def test_late_request_with_an_answer_counts(upstream: Upstream, desk: Desk) -> None:
    assert reason(ask_by(upstream, desk.url, Late(60))) == 200
    desk.fail(500)
    outcomes = [reason(ask_by(upstream, desk.url, Late(60))) for _ in range(FAILURES + 1)]
    assert outcomes == [Reason.SERVER_ERROR] * FAILURES + [Reason.CIRCUIT_OPEN]


def test_recovered_server_is_asked_again(upstream: Upstream, clock: Clock) -> None:
    url = unused_url()
    bring_down(upstream, url)
    for _ in range(3):
        clock.now += LONGEST_PAUSE * MOST
        assert reason(get(upstream, url)) is Reason.UNREACHABLE
        assert reason(get(upstream, url)) is Reason.CIRCUIT_OPEN
    with Desk().serve(port=int(url.rpartition(":")[2])):
        assert reason(get(upstream, url)) is Reason.CIRCUIT_OPEN
        clock.now += LONGEST_PAUSE * MOST
        assert [reason(get(upstream, url)) for _ in range(3)] == [200] * 3


def test_two_requests_of_one_visit_are_one_call(desk: Desk) -> None:
    upstream = Upstream(guard=Guard(concurrent=1))
    visit = upstream.visit(desk.url, Deadline(60))
    assert not isinstance(visit, Unavailable)
    with visit:
        assert [reason(visit.send("GET", desk.url, headers={})) for _ in range(2)] == [200] * 2
        assert reason(get(upstream, desk.url)) is Reason.UPSTREAM_BUSY
    assert reason(get(upstream, desk.url)) == 200
    upstream.close()


def test_scheme_host_and_port_identify_a_server(upstream: Upstream, desk: Desk) -> None:
    desk.fail(500)
    bring_down(upstream, f"{desk.url}/one?two=three")
    assert reason(get(upstream, f"{desk.url.replace('http:', 'HTTP:')}/another")) is Reason.CIRCUIT_OPEN
    port = desk.url.rpartition(":")[2]
    desk.repair()
    assert reason(get(upstream, f"http://localhost:{port}/")) == 200
    assert reason(get(upstream, f"https://127.0.0.1:{port}/")) is Reason.UNREACHABLE
    assert reason(get(upstream, unused_url())) is Reason.UNREACHABLE


def test_server_name_shows_brackets_and_default_port(upstream: Upstream) -> None:
    assert "http://[::1]:9 is" in detail_when_down(upstream, "http://[::1]:9/")
    assert "https://no-such.invalid:443 is" in detail_when_down(upstream, "https://NO-such.invalid/")


def detail_when_down(upstream: Upstream, url: str) -> str:
    bring_down(upstream, url)
    outcome = get(upstream, url)
    assert isinstance(outcome, Unavailable)
    return outcome.detail


def test_interrupted_call_gives_its_place_back(upstream: Upstream, desk: Desk) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted

    for _ in range(BOUND + 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", interrupt)
            with pytest.raises(Interrupted):
                get(upstream, desk.url)
    assert reason(get(upstream, desk.url)) == 200
