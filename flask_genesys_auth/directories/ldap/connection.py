"""One connection to an LDAP server: opened, secured, and asked, all of it by the deadline of the exchange under way."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...chain.decision import Reason, Unavailable
from ...upstream import BoundedSocket, Deadline, TooMuch, connect, explain
from .library import Control, LDAPSessionTerminatedByServerError, ldap3
from .results import (
    NO_SUCH_OBJECT,
    PASSWORD_POLICY,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    NoAnswer,
    Result,
    no_answer,
)

if TYPE_CHECKING:
    import ssl

    from ...config.addresses import LdapServer

START_TLS = "1.3.6.1.4.1.1466.20037"

# Made once, for that takes as long as a tenth of a bind; it is only read.
_ASK_FOR_POLICY = Control()
_ASK_FOR_POLICY["controlType"] = PASSWORD_POLICY
_ASK_FOR_POLICY["criticality"] = False

_OF_ONE_PERSON = (TooMuch, KeyError)
"""What one entry can bring about, a large one or one that is elsewhere: it must not close the directory to others.

ldap3 raises the latter where a bind is referred to another server.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was found.

    :param values: octets, by the attribute's name in lower case, without options.
    """

    dn: str
    values: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    :param more: there are more than were asked for.
    """

    entries: tuple[Entry, ...]
    more: bool = False


class _Server(ldap3.Server):
    """A server for one connection: ldap3 numbers the messages of all servers under one lock, which no fork respects."""

    def __init__(self, address: LdapServer) -> None:
        super().__init__(address.host, port=address.port, get_info=ldap3.NONE, allowed_referral_hosts=[])
        self._numbers = itertools.count(1)

    def next_message_id(self) -> int:  # type: ignore[override]  # ldap3 calls it on the object, static or not
        return next(self._numbers)


class Connection:
    """A connection that is open. After any error it is to be closed, not used again.

    Only one thread uses it at a time. It keeps no password, and no request that has one.

    :param sock: connected.
    :ivar opened: when, as is ``used``: seconds that never go back.
    """

    def __init__(self, address: LdapServer, sock: BoundedSocket) -> None:
        self._wire = ldap3.Connection(
            _Server(address),
            auto_bind=ldap3.AUTO_BIND_NONE,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            auto_range=False,
            check_names=False,
            raise_exceptions=False,
            return_empty_attributes=False,
            auto_escape=False,
            read_only=True,
        )
        # What open() would do, which looks up names, connects and shakes hands without an end.
        self._wire.socket = sock
        self._wire.closed = False
        self._wire.strategy._outstanding = {}
        self._wire.strategy._start_listen()
        self._sealed = False
        self.opened = self.used = time.monotonic()

    def __repr__(self) -> str:
        return f"Connection({self._wire.server.name!r})"

    @classmethod
    def open(cls, address: LdapServer, deadline: Deadline, tls: ssl.SSLContext, *, start_tls: bool) -> Connection:
        """Connect; with TLS, verify the server's certificate and name.

        :raises NoAnswer: if that is not to be had in time.
        """
        try:
            sock = connect(address.host, address.port)
        except OSError as error:
            raise _unreachable(error) from error
        try:
            if not address.tls and start_tls:
                sock = cls(address, sock)._released_for_tls()
            if address.tls or start_tls:
                sock.settimeout(deadline.remaining())
                sock = tls.wrap_socket(sock, server_hostname=address.host)  # type: ignore[assignment]  # sslsocket_class
        except OSError as error:
            sock.close()
            raise _unreachable(error) from error
        except NoAnswer:
            sock.close()
            raise
        return cls(address, sock)

    @property
    def quiet(self) -> bool:
        """Tell whether the server has said nothing unasked, such as goodbye."""
        return isinstance(self._wire.socket, BoundedSocket) and self._wire.socket.quiet()

    @property
    def tls_version(self) -> str:
        """``TLSv1.3`` or the like, or empty."""
        version = getattr(self._wire.socket, "version", None)
        return str(version()) if version is not None else ""

    def seal(self) -> None:
        """Refuse everything until somebody has been bound: nobody shall act as the one before."""
        self._sealed = True

    def bind(self, dn: str, password: str, *, counts: bool = True) -> Result:
        """Bind, and ask for what the password policy says; a bind that is refused leaves nobody bound.

        :param password: not empty, for that would be nobody's (RFC 4513 5.1.2); sent as it is, octet by octet.
        :param counts: the person's own: where no result comes, their failure may have been counted.
        :raises ValueError: if it is empty.
        :raises NoAnswer: if no result came.
        """
        if not dn or not password:
            raise ValueError("a bind without a name or without a password proves nothing")
        wire = self._wire
        with self._asking(counts=counts):
            try:
                wire.user, wire.password, wire.authentication = dn, password.encode(), ldap3.SIMPLE
                wire.bind(read_server_info=False, controls=[_ASK_FOR_POLICY])
                result = Result.of(wire.result)
                self._sealed = result.code != SUCCESS
                return result
            finally:
                wire.user = wire.password = wire.request = wire.result = None
                wire.strategy._outstanding = {}

    def search(
        self, base: str, filter_: str, *, scope: str, attributes: Sequence[str], limit: int, deadline: Deadline
    ) -> Found:
        """Return the entries that match; references to other servers are not followed.

        :param scope: of ldap3's.
        :param limit: entries.
        :raises NoAnswer: if the search did not end well.
        :raises RuntimeError: if somebody has to be bound first.
        """
        if self._sealed:
            raise RuntimeError("this connection may still be bound as the person before")
        wire = self._wire
        with self._asking():
            wire.search(
                base,
                filter_,
                search_scope=scope,  # type: ignore[arg-type]  # one of ldap3's constants
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes) or [ldap3.NO_ATTRIBUTES],
                size_limit=limit,
                time_limit=math.ceil(deadline.remaining()),
            )
            result = Result.of(wire.result)
            entries = tuple(_entry(found) for found in wire.response or () if found["type"] == "searchResEntry")
            wire.response = wire.request = None
        if result.code not in {SUCCESS, SIZE_LIMIT_EXCEEDED}:
            raise no_answer(result)
        return Found(entries, more=result.code == SIZE_LIMIT_EXCEEDED)

    def read(self, dn: str, attributes: Sequence[str], deadline: Deadline) -> Entry | None:
        """Return an entry, or ``None`` where there is none, or none that may be seen.

        :raises NoAnswer: if there was no telling.
        """
        try:
            found = self.search(
                dn, "(objectClass=*)", scope=ldap3.BASE, attributes=attributes, limit=1, deadline=deadline
            )
        except NoAnswer as missed:
            if missed.code == NO_SUCH_OBJECT:
                return None
            raise
        return found.entries[0] if found.entries else None

    def close(self) -> None:
        """Close it, without a word."""
        self._wire.strategy.close()

    def _released_for_tls(self) -> BoundedSocket:
        """Ask for TLS, and return the socket on which to begin it (RFC 4511 4.14)."""
        wire = self._wire
        with self._asking():
            wire.extended(START_TLS)
            result = Result.of(wire.result)
        if result.code != SUCCESS:
            missed = no_answer(result, hint="it does not offer StartTLS: use ldaps://, or look at its certificates")
            raise NoAnswer(missed.outcome, well=missed.well)
        sock: BoundedSocket = wire.socket
        return sock

    @contextmanager
    def _asking(self, *, counts: bool = False) -> Iterator[None]:
        """Turn whatever ends an operation, but for its result, into :class:`NoAnswer`.

        :param counts: the server may have counted a failure of the person's.
        """
        try:
            yield
        except NoAnswer:
            raise
        except Exception as error:  # ldap3 lets out whatever reading octets that are no LDAP has raised
            reason, detail = _what(error)
            outcome = Unavailable(reason, detail=detail, uncounted=not counts)
            raise NoAnswer(outcome, well=None if isinstance(error, _OF_ONE_PERSON) else False) from error


def _what(error: Exception) -> tuple[Reason, str]:
    if isinstance(error, TooMuch):
        return Reason.UNREADABLE_ANSWER, "the answer is larger than we read"
    if isinstance(error, KeyError):
        return Reason.UNREADABLE_ANSWER, "ldap3 cannot read the answer: a referral, or a result that it does not know"
    if isinstance(error, TimeoutError):
        return Reason.TIMED_OUT, "no whole answer in time"
    if isinstance(error, OSError):
        return Reason.SERVER_ERROR, f"the connection broke: {explain(error)}"
    if isinstance(error, LDAPSessionTerminatedByServerError):
        return Reason.SERVER_ERROR, "the server has ended the connection"
    return Reason.UNREADABLE_ANSWER, f"the answer is no LDAP ({type(error).__name__})"


def _unreachable(error: OSError) -> NoAnswer:
    detail = f"no connection: {explain(error)}"
    return NoAnswer(Unavailable(Reason.UNREACHABLE, detail=detail, uncounted=True), well=False)


def _entry(found: Mapping[str, Any]) -> Entry:
    values: dict[str, tuple[bytes, ...]] = {}
    for name, octets in found["raw_attributes"].items():
        plain = name.partition(";")[0].lower()
        # With several options (RFC 4512 2.5) it comes several times: no value takes the place of another.
        values[plain] = values.get(plain, ()) + tuple(octets or ())
    return Entry(bytes(found["raw_dn"]).decode(), values)
