"""A proxy in front of a server that delays answers, sends them byte by byte, or not at all."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit


class SlowWire:
    """Listens on loopback and passes on what is said to a server and what it answers.

    :param url: the server's address.
    :param certificate: with its key, where the way is by TLS.
    """

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        parts = urlsplit(url)
        self._server = (str(parts.hostname), int(parts.port or 0))
        self.before_answer = 0.0
        """Seconds before each answer."""
        self.before_byte = 0.0
        """Seconds before each byte of an answer."""
        self.silent = False
        """Nothing is passed on."""
        self.accepted = 0
        """Connections taken so far."""
        self.asked = 0
        """Requests read so far: a client that sends one and waits for its answer has waited as often."""
        self.clients = 0
        """Connections that clients hold open now."""
        self.stray = b""
        """An answer that is sent unasked, once, together with the next answer."""
        self.late = b""
        """An answer that is sent unasked, once, before the next answer."""
        self.on_loading = b""
        """What is :attr:`late` when a script is loaded."""
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._closed = False
        scheme = "redis" if certificate is None else "rediss"
        query = "" if certificate is None else f"?ssl_ca_certs={certificate}"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/3{query}"
        self._start(self._accept)

    def close(self) -> None:
        self._closed = True
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        if self.silent:
            return
        with suppress(OSError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self._open.append(client)
            server = socket.create_connection(self._server)
            self._open.append(server)
            self._start(self._ask, client, server)
            while answer := server.recv(65536):
                time.sleep(self.before_answer)
                stray, self.stray = self.stray, b""
                late, self.late = self.late, b""
                answer = late + answer + stray
                pause = self.before_byte
                for start in range(len(answer)) if pause else (0,):
                    time.sleep(pause)
                    client.sendall(answer[start : start + 1] if pause else answer)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        self.clients += 1
        with suppress(OSError):
            while asked := client.recv(65536):
                self.asked += 1
                if b"SCRIPT" in asked and self.on_loading:
                    self.late, self.on_loading = self.on_loading, b""
                while self.silent and not self._closed:
                    time.sleep(0.01)  # and take no more: what is sent stands still
                server.sendall(asked)
        self.clients -= 1


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@contextmanager
def slow_wire(url: str, certificate: Path | None = None) -> Iterator[SlowWire]:
    """Give such a way meanwhile."""
    wire = SlowWire(url, certificate)
    try:
        yield wire
    finally:
        wire.close()
