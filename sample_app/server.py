"""A threaded server on a port that is opened before the application is built."""

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
    """The port cannot be opened; the message gives the reason."""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do not log requests: URLs can contain one-time codes."""


class Server:
    """Opens a port at once, and serves an application there later.

    :param host: a name or an address.
    :param port: 0: a free port.
    :raises CannotListen: if the port is in use, or the host is not an address of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._serving: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL without a trailing slash, such as ``http://127.0.0.1:5000``."""
        return f"http://[{self._host}]:{self.port}" if ":" in self._host else f"http://{self._host}:{self.port}"

    def serve(self, application: WSGIApplication) -> None:
        """Start serving."""
        self._server = make_server(
            self._host, self.port, application, threaded=True, request_handler=_Handler, fd=self._socket.fileno()
        )
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._serving.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
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
                f"Port {port} of {host} is in use by another program; stop it, or choose another port with --port."
            ) from error
        raise CannotListen(f"Port {port} of {host} cannot be opened: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Return whether the host is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def wait_until_answering(url: str) -> None:
    """Wait until a server answers an HTTP request with any status.

    :raises OSError: after ten seconds without an answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("HEAD", "/healthz", headers={"Connection": "close"})
        connection.getresponse().read()
    finally:
        connection.close()
