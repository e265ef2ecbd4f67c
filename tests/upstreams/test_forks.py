"""A forked process has connections and circuits of its own, and leaves its parent's alone."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.testing.server import unused_url
from flask_genesys_auth.upstream import Answer, Deadline, Guard, Upstream
from flask_genesys_auth.upstream.breaker import FAILURES
from tests.certificates import make_certificate
from tests.forking import FORKS, holds_in_child

from .test_guard import OTHER, SERVER, entered, fail, refused

pytestmark = pytest.mark.parametrize("fork", sorted(FORKS))

LONG = 60.0


class Greeter:
    """An HTTP server that answers with the number of the connection and the path.

    :param certificate: serve TLS with it.
    :ivar seen: set once a request for ``/wait`` has come; it is answered once ``go`` is set.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.seen, self.go = threading.Event(), threading.Event()
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, len(self._threads)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        with self._context.wrap_socket(plain, server_side=True) if self._context else plain as connection:
            while head := connection.recv(65536):
                path = head.split(b" ")[1]
                if path == b"/wait":
                    self.seen.set()
                    assert self.go.wait(LONG)
                body = b"%d %s" % (number, path)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["http", "https"])
def greeter(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Greeter]:
    server = Greeter(certificate if request.param == "https" else None)
    yield server
    server.stop()


def said(client: Upstream, url: str) -> str:
    outcome = client.send("GET", url, headers={}, deadline=Deadline(LONG))
    return outcome.body.decode() if isinstance(outcome, Answer) else f"{outcome.reason}: {outcome.detail}"


def test_each_process_has_its_own_connection(greeter: Greeter, certificate: Path, fork: str) -> None:
    client = Upstream(certificates=certificate.read_text())
    assert said(client, f"{greeter.url}/parent") == "1 /parent"

    def check() -> bool:
        own = [said(client, f"{greeter.url}/child") for _ in range(2)]
        client.close()
        return own == ["2 /child"] * 2

    assert holds_in_child(check, fork=fork)
    assert said(client, f"{greeter.url}/parent") == "1 /parent"
    client.close()
    assert said(client, f"{greeter.url}/parent") == "3 /parent"
    client.close()


def test_child_closes_no_connection_of_its_parent(greeter: Greeter, certificate: Path, fork: str) -> None:
    clients = [Upstream(certificates=certificate.read_text())]
    assert said(clients[0], f"{greeter.url}/parent") == "1 /parent"

    def check() -> bool:
        clients.clear()
        gc.collect()
        return True

    assert holds_in_child(check, fork=fork)
    assert said(clients[0], f"{greeter.url}/parent") == "1 /parent"
    clients[0].close()


def test_request_during_a_fork_gets_its_answer(greeter: Greeter, certificate: Path, fork: str) -> None:
    client = Upstream(certificates=certificate.read_text())
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(said(client, f"{greeter.url}/wait")))
    waiting.start()
    assert greeter.seen.wait(LONG)
    assert holds_in_child(lambda: said(client, f"{greeter.url}/child") == "2 /child", fork=fork)
    greeter.go.set()
    waiting.join(LONG)
    assert answers == ["1 /wait"]
    client.close()


def test_child_has_its_own_circuit(fork: str) -> None:
    url = unused_url()
    client = Upstream()

    def outcome() -> Reason:
        found = client.send("GET", url, headers={}, deadline=Deadline(LONG))
        assert isinstance(found, Unavailable)
        return found.reason

    def opens_after(failures: int) -> bool:
        found = [outcome() for _ in range(failures + 1)]
        return found == [Reason.UNREACHABLE] * failures + [Reason.CIRCUIT_OPEN]

    for _ in range(FAILURES - 1):
        assert outcome() is Reason.UNREACHABLE
    assert holds_in_child(lambda: opens_after(FAILURES), fork=fork)
    assert opens_after(1)
    assert holds_in_child(lambda: opens_after(FAILURES), fork=fork)
    assert outcome() is Reason.CIRCUIT_OPEN


def test_parents_calls_do_not_count_in_a_child(fork: str) -> None:
    guard = Guard(concurrent=2, max_wait=0)
    fail(guard, FAILURES, OTHER)
    under_way = [entered(guard.enter(SERVER)) for _ in range(2)]

    def check() -> bool:
        own = [guard.enter(SERVER) for _ in range(2)]
        with under_way[0]:
            under_way[0].failed("of the parent")
        refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
        entered(guard.enter(OTHER))
        return all(entered(one) for one in own)

    assert holds_in_child(check, fork=fork)
    refused(guard.enter(OTHER))
    refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
    with under_way[0]:
        pass
    entered(guard.enter(SERVER))


def test_lock_held_during_a_fork_blocks_no_child(fork: str) -> None:
    parent, held, go = os.getpid(), threading.Event(), threading.Event()

    def clock() -> float:
        if os.getpid() == parent:
            held.set()
            assert go.wait(LONG)
        return 0.0

    guard = Guard(concurrent=1, max_wait=0, clock=clock)
    thread = threading.Thread(target=guard.enter, args=(SERVER,))
    thread.start()
    assert held.wait(LONG)
    assert holds_in_child(lambda: bool(entered(guard.enter(SERVER))), fork=fork)
    go.set()
    thread.join(LONG)
    refused(guard.enter(SERVER), Reason.UPSTREAM_BUSY)
