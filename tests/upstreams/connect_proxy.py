"""An HTTP proxy on real sockets that makes tunnels (RFC 9110 9.3.6) and records them, and TLS in front of a server."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_LONGEST = 600.0


class ConnectProxy:
    """Takes part in a test as a context.

    :param authorization: the ``Proxy-Authorization`` it asks for; empty: none.
    :param answer: what it says to a ``CONNECT`` that it grants.
    """

    def __init__(self, *, authorization: str = "", answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self._authorization = authorization
        self._answer = answer
        self.heads: list[str] = []
        self.seen = bytearray()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._listener.close()

    @property
    def targets(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def _spawn(self, run: object, *arguments: object) -> threading.Thread:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(_LONGEST)
            head = b""
            while b"\r\n\r\n" not in head:
                received = client.recv(1)
                if not received:
                    return
                head += received
            self.heads.append(head.decode("ascii"))
            if self._authorization and f"\r\nProxy-Authorization: {self._authorization}\r\n" not in self.heads[-1]:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            self._tunnel(client, self.heads[-1].split(" ")[1])

    def _tunnel(self, client: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        try:
            server = socket.create_connection((host.strip("[]"), int(port)), timeout=_LONGEST)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\ndown")
            return
        self._open.append(server)
        with server:
            client.sendall(self._answer)
            back = self._spawn(self._pump, server, client, bytearray())
            self._pump(client, server, self.seen)
            back.join(60)

    def _pump(self, source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
        with suppress(OSError):
            while octets := source.recv(65536):
                seen += octets
                sink.sendall(octets)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class TlsFront(ConnectProxy):
    """Serves TLS, sends each request on to a server that speaks plain HTTP, and its answer back.

    :param certificate: file of the certificate and its key.
    :param server: the address of the server behind it, ``http://127.0.0.1:port``.
    """

    def __init__(self, certificate: Path, server: str) -> None:
        super().__init__()
        self.url = f"https://127.0.0.1:{self.port}"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._behind = ("127.0.0.1", int(server.rpartition(":")[2]))

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), self._context.wrap_socket(client, server_side=True) as secured:
            self._open.append(secured)
            while head := secured.recv(65536):
                with socket.create_connection(self._behind, timeout=_LONGEST) as server:
                    self._open.append(server)
                    server.sendall(head)
                    while octets := server.recv(65536):
                        secured.sendall(octets)
                return
