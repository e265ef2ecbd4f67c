"""An LDAP server that answers with scripted octets, for answers that OpenLDAP never sends."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer, Ldap

BIND, SEARCH, EXTENDED = 0x60, 0x63, 0x77
_ANSWERS = {BIND: 0x61, SEARCH: 0x65, EXTENDED: 0x78}
POLICY = b"1.3.6.1.4.1.42.2.27.8.5.1"


def ber(tag: int, *parts: bytes) -> bytes:
    """Encode a value (X.690 8.1)."""
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x83" + size.to_bytes(3, "big")
    return bytes([tag]) + length + content


def text(value: str | bytes) -> bytes:
    return ber(0x04, value.encode() if isinstance(value, str) else value)


@dataclass(frozen=True)
class Asked:
    """A request: the tag of its operation, all of its octets, and the number of its connection."""

    number: bytes
    operation: int
    octets: bytes
    connection: int = 0

    def message(self, operation: bytes, controls: bytes = b"") -> bytes:
        return ber(0x30, self.number, operation, controls)

    def result(self, code: int, message: str = "", *, controls: bytes = b"", extra: bytes = b"") -> bytes:
        """Return the end of this operation."""
        body = ber(0x0A, bytes([code])) + text("") + text(message) + extra
        return self.message(ber(_ANSWERS[self.operation], body), controls)

    def policy(self, code: int, value: bytes) -> bytes:
        """Return a result with the control of the password policy."""
        return self.result(code, controls=ber(0xA0, ber(0x30, text(POLICY), text(value))))

    def entry(self, dn: str | bytes, **attributes: str | bytes) -> bytes:
        """Return an entry that was found."""
        listed = (ber(0x30, text(name), ber(0x31, text(value))) for name, value in attributes.items())
        return self.message(ber(0x64, text(dn), ber(0x30, *listed)))

    def reference(self, url: str) -> bytes:
        """Return a reference to another server."""
        return self.message(ber(0x73, text(url)))


Say = Callable[[Asked], bytes | None]


class ScriptedServer:
    """Answers each request by a function; ``None`` ends the connection, nothing is silence.

    :ivar asked: every request, in their order.
    :ivar seen: is set by each request, before it is answered.
    :ivar hangs_up: after each answer to a bind it ends the connection.
    :ivar ended: gets something for each connection that it has ended.
    """

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[Asked] = []
        self.seen = threading.Event()
        self.connections = 0
        self.hangs_up = False
        self.ended: queue.Queue[None] = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # To close a listener does not wake who waits on it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()
        self._thread.join(30)

    def operations(self) -> list[int]:
        return [one.operation for one in self.asked]

    def settings(self, *others: int, timeout: float = 20, **changes: Any) -> ConfigurationServer:
        """Return settings that search here (and on these other ports), then bind."""
        table: dict[str, Any] = {
            "servers": tuple(LdapServer(False, "127.0.0.1", port) for port in (self.port, *others)),
            "start_tls": False,
            "base": "ou=people",
            **changes,
        }
        return ConfigurationServer(directory="ldap", timeout=timeout, ldap=Ldap(**table))

    def by_template(self, *others: int, timeout: float = 20, **changes: Any) -> ConfigurationServer:
        """Return settings that bind at once."""
        return self.settings(*others, timeout=timeout, base="", user_dn="uid={user},ou=people", **changes)

    def as_service(self, *others: int, timeout: float = 20) -> ConfigurationServer:
        """Return settings with a service account."""
        return self.settings(*others, timeout=timeout, bind_dn="cn=service", bind_password=Secret("the s3cret"))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError):
            for octets in _messages(connection):
                asked = _read(octets, number)
                if asked.operation == 0x42:  # an unbind
                    break
                self.asked.append(asked)
                self.seen.set()
                said = self.say(asked)
                if said is None:
                    break
                connection.sendall(said)
                if self.hangs_up and asked.operation == BIND:
                    break
            connection.shutdown(socket.SHUT_RDWR)
        self.ended.put(None)


def _messages(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as stream:
        while (head := stream.read(2))[:1] == b"\x30":
            size, more = head[1], b""
            if size & 0x80:
                more = stream.read(size & 0x7F)
                size = int.from_bytes(more, "big")
            yield head + more + stream.read(size)


def _read(octets: bytes, connection: int) -> Asked:
    start = 2 + (octets[1] & 0x7F if octets[1] & 0x80 else 0)
    end = start + 2 + octets[start + 1]
    return Asked(octets[start:end], octets[end], octets, connection)


def finds_ann(bind: Say) -> Say:
    """Return a script in which a search finds ann, and binds are answered so."""

    def say(asked: Asked) -> bytes | None:
        if asked.operation == SEARCH:
            return asked.entry("uid=ann,ou=people", uid="ann") + asked.result(0)
        return bind(asked)

    return say
