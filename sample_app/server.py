"""Serves the application on a port that was taken beforehand, in threads, until it is told to stop."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Self


class CannotListen(Exception):
    """A port cannot be had; the message is the sentence that says why."""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of what went well: addresses can hold one-time codes."""


class Server:
    """A port, taken at once, and the application that answers there once it is served.

    :param host: a name or an address.
    :param port: 0 takes a free one.
    :raises CannotListen: if the port is taken or the host is none of this machine's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._serving: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address without a trailing slash, such as ``http://127.0.0.1:5000``."""
        return f"http://[{self._host}]:{self.port}" if ":" in self._host else f"http://{self._host}:{self.port}"

    def serve(self, application: WSGIApplication) -> None:
        """Begin to answer."""
        self._server = make_server(
            self._host, self.port, application, threaded=True, request_handler=_Handler, fd=self._socket.fileno()
        )
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._serving.start()

    def stop(self) -> None:
        """Stop answering and give the port back."""
        if self._serving is not None:
            self._server.shutdown()
            self._serving.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"Port {port} of {host} is taken by another program: stop that one, or choose another with --port."
            ) from error
        raise CannotListen(f"Port {port} of {host} cannot be had: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Tell whether what is served there cannot leave the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def wait_until_answering(url: str) -> None:
    """Return once a server has answered one HTTP request, whatever it said.

    :raises OSError: if it does not within ten seconds.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("HEAD", "/healthz", headers={"Connection": "close"})
        connection.getresponse().read()
    finally:
        connection.close()
