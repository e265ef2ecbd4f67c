"""HTTP servers on loopback for tests: for WSGI applications, for emulators that fail on request, for raw bytes."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Authorization, EnvironHeaders, Headers, MultiDict
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Self

MAX_HANG = 600.0
_REMEMBERED_REQUESTS = 200


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the name is Werkzeug's
        """Log nothing."""


class Server:
    """A server that runs inside a ``with`` block."""

    def start(self) -> Self:
        """Start the server."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close connections and free the port."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class LoopbackServer(Server):
    """Serves a WSGI application in threads.

    :param host: loopback name or address to listen on.
    :param port: 0: a free port.
    """

    def __init__(self, application: WSGIApplication, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = make_server(host, port, application, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.host = host
        self.port: int = self._server.server_port

    @property
    def url(self) -> str:
        """The URL without a trailing slash, such as ``http://127.0.0.1:5002``."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Start the server."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop the server and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that an emulator received."""

    method: str
    path: str
    headers: Headers = field(repr=False)
    form: MultiDict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Fault:
    path: str
    times: int
    hang: bool
    close: bool
    status: str
    headers: list[tuple[str, str]]
    body: bytes
    interval: float


class Emulator:
    """A WSGI application that emulates a server, records requests, and fails on request.

    Serve it by :meth:`serve`, or by any WSGI server. ``requests`` holds the last requests; ``count`` is their total.
    For a refused connection use :func:`unused_url` instead.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: deque[RecordedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.count = 0
        self._fault: _Fault | None = None
        self._failed = 0
        self._repaired = threading.Event()
        self._lock = threading.Lock()

    def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> LoopbackServer:
        """Return a server of this emulator, not started yet; sets ``url``."""
        server = LoopbackServer(self, host=host, port=port)
        self.url = server.url
        return server

    def fail(
        self,
        status: int = 200,
        *,
        body: str | bytes = b"",
        headers: dict[str, str] | None = None,
        hang: bool = False,
        close: bool = False,
        drip: float = 0.0,
        path: str = "",
        times: int = 0,
    ) -> None:
        """Fail every request until ``repair()``.

        :param status: with ``body`` and ``headers``: the response, such as 500, garbage, or a redirect.
        :param hang: never respond.
        :param close: close the connection without a response (with :class:`LoopbackServer` only).
        :param drip: seconds between the bytes of the body.
        :param path: fail only requests whose path ends with it.
        :param times: number of failures; 0: until ``repair()``.
        """
        self.repair()
        self._repaired = threading.Event()
        sent = {"Content-Type": "text/plain", **(headers or {})}
        octets = body.encode() if isinstance(body, str) else body
        self._fault = _Fault(path, times, hang, close, f"{status} On Purpose", list(sent.items()), octets, drip)

    def repair(self) -> None:
        """Answer normally again; end requests that hang."""
        self._fault = None
        self._failed = 0
        self._repaired.set()

    def forget(self) -> None:
        """Clear ``requests`` and ``count``."""
        with self._lock:
            self.requests.clear()
            self.count = 0

    def respond(self, request: Request) -> Response:
        """Answer a request like the emulated server."""
        raise NotImplementedError

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Record the request, then answer it or fail (PEP 3333)."""
        request = Request(environ)
        recorded = Headers(EnvironHeaders(environ))
        fault, repaired = self._record(RecordedRequest(request.method, request.path, recorded, request.form))
        if fault is None:
            return self.respond(request)(environ, start_response)
        if fault.close:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if fault.hang:
            repaired.wait(MAX_HANG)
            return Response("the emulator hung", 503)(environ, start_response)
        # Not by a Response, which would correct headers that are wrong on purpose.
        length = [] if fault.interval else [("Content-Length", str(len(fault.body)))]
        start_response(fault.status, fault.headers + length)
        return _drip(fault.body, fault.interval, repaired) if fault.interval else [fault.body]

    def _record(self, request: RecordedRequest) -> tuple[_Fault | None, threading.Event]:
        """Record a request; return its fault, if any, and the event that ends the fault."""
        with self._lock:
            self.count += 1
            self.requests.append(request)
            fault = self._fault
            if fault is None or not request.path.endswith(fault.path) or 0 < fault.times <= self._failed:
                return None, self._repaired
            self._failed += 1
            return fault, self._repaired


def _drip(body: bytes, interval: float, repaired: threading.Event) -> Iterator[bytes]:
    for octet in body:
        repaired.wait(interval)
        yield bytes([octet])


class RawServer(Server):
    """Answers every request with prepared bytes.

    :param pieces: sent one after the other.
    :param interval: seconds before each piece.
    :param hold: keep the connection open after the last piece until stopped; else it is closed.
    """

    def __init__(self, pieces: Sequence[bytes] = (), *, interval: float = 0.0, hold: bool = False) -> None:
        self._pieces = pieces
        self._interval = interval
        self._hold = hold
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> Self:
        """Start the server."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close connections and free the port."""
        self._stopped.set()
        # close() alone does not wake a thread in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        serving: list[threading.Thread] = []
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            serving.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            serving[-1].start()
        for thread in serving:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        # Clients under test may disconnect at any time.
        with connection, suppress(OSError):
            connection.settimeout(MAX_HANG)
            connection.recv(65536)
            for piece in self._pieces:
                if self._stopped.wait(self._interval):
                    return
                connection.sendall(piece)
            if self._hold:
                self._stopped.wait(MAX_HANG)


def unused_url() -> str:
    """Return a loopback URL that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(json.dumps(value), status, content_type="application/json;charset=UTF-8")


def basic_authorization(user_name: str, password: str) -> str:
    """Return the value of an ``Authorization`` header (RFC 7617), in UTF-8."""
    return Authorization("basic", {"username": user_name, "password": password}).to_header()
