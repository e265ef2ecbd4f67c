"""A real HTTP server on loopback around any WSGI application, for emulators and identity providers in tests."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Self


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the name is Werkzeug's
        """Say nothing: what was asked is a matter of the test, not of the terminal."""


class Server:
    """What runs while its context is entered."""

    def start(self) -> Self:
        """Begin to answer."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let everybody go and give the port back."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class LoopbackServer(Server):
    """Serves a WSGI application on a port of its own, in threads, until stopped.

    :param application: what answers.
    :param host: the loopback name or address to listen on and to be called by.
    :param port: 0 takes a free one.
    """

    def __init__(self, application: WSGIApplication, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = make_server(host, port, application, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.host = host
        self.port: int = self._server.server_port

    @property
    def url(self) -> str:
        """The address without a trailing slash, such as ``http://127.0.0.1:5002``."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and give the port back."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
