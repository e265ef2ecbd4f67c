"""One connection to an LDAP server: opened, secured and used by the deadline of the exchange under way.

ldap3 writes and reads the messages. This is the only file that uses it, and all that ldap3 does not document stands
here: it opens sockets by itself and bounds only single waits, so it is given a socket of ours that is already open.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...chain.outcomes import Reason, Unavailable
from ...errors import ConfigurationError
from ...upstream import BoundedSocket, Deadline, TooMuch, connect, explain
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

try:
    with warnings.catch_warnings():
        # ldap3 2.9.1 imports pyasn1's tables by their old names; nobody here can do anything about it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import ldap3
        from ldap3.core.exceptions import LDAPInvalidFilterError, LDAPSessionTerminatedByServerError
        from ldap3.operation.search import search_operation
        from ldap3.protocol.rfc4511 import Control
except ImportError as error:
    raise ConfigurationError(
        f'directory = "ldap" needs ldap3 ({error}): pip install "flask-genesys-auth[ldap]"'
    ) from error

START_TLS = "1.3.6.1.4.1.1466.20037"

SUBTREE, ONE_LEVEL = ldap3.SUBTREE, ldap3.LEVEL

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


def check_filter(text: str) -> None:
    """Check a filter (RFC 4515) as ldap3 reads it.

    :raises ValueError: if ldap3 cannot read it.
    """
    try:
        _read_filter(text)
    except LDAPInvalidFilterError as error:
        raise ValueError(str(error)) from None


def _read_filter(text: str) -> Any:
    return search_operation("", text, ldap3.SUBTREE, ldap3.DEREF_NEVER, [], 0, 0, False, False, True)["filter"]


# Names are escaped octet by octet (RFC 4515 3). The pre-releases of ldap3 2.10 send escapes as they stand: then nobody
# with an escaped character in their name would be found.
if bytes(_read_filter(r"(cn=\2a)")["equalityMatch"]["assertionValue"]) != b"*":
    raise ConfigurationError(
        f'ldap3 {version("ldap3")} does not read escapes in filters (RFC 4515 3): pip install "ldap3<2.10"'
    )


class _Server(ldap3.Server):
    """A server for one connection: ldap3's own lock for the numbers of messages may be held in a forked child."""

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
        # open() makes no connection for what ldap3 calls a server that is not real. Ours is connected already.
        self._wire.strategy.no_real_dsa = True
        self._wire.open(read_server_info=False)
        self._wire.strategy.no_real_dsa = False
        self._wire.socket = sock
        self._wire.closed, self._wire.listening = False, True
        self._sealed = False
        self.opened = self.used = time.monotonic()

    def __repr__(self) -> str:
        return f"Connection({self._wire.server.name!r})"

    @classmethod
    def open(
        cls, address: LdapServer, deadline: Deadline, tls: ssl.SSLContext | None, *, start_tls: bool
    ) -> Connection:
        """Connect; with TLS, verify the server's certificate and name.

        :param tls: required with ``ldaps://`` and with ``start_tls``.
        :param start_tls: begin TLS on a plain connection (RFC 4511 4.14).
        :raises ValueError: if ``tls`` is missing.

        :raises NoAnswer: if that is not to be had in time.
        """
        if tls is None and (address.tls or start_tls):
            raise ValueError(f"{address} needs TLS")
        try:
            sock = connect(address.host, address.port)
        except OSError as error:
            raise _unreachable(error) from error
        try:
            if start_tls and not address.tls:
                sock = cls(address, sock)._released_for_tls()
            if tls is not None:
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
