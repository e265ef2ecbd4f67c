"""One connection to an LDAP server, and the meaning of the server's results.

ldap3 writes and reads the messages. Only this file uses it, including what ldap3 does not document: ldap3 would open
sockets by itself and limits single waits only, so it gets a connected socket of ours. Result codes are those of
RFC 4511, appendix A.
"""

from __future__ import annotations

import itertools
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...chain.outcomes import Reason, Rejected, Unavailable
from ...errors import ConfigurationError
from ...upstream import BoundedSocket, Deadline, TooMuch, connect, explain, printable

if TYPE_CHECKING:
    import ssl

    from ...config.addresses import LdapServer

try:
    with warnings.catch_warnings():
        # ldap3 2.9.1 imports pyasn1's tables by deprecated names; its users cannot change that.
        warnings.simplefilter("ignore", DeprecationWarning)
        import ldap3
        from ldap3.core.exceptions import LDAPInvalidFilterError, LDAPSessionTerminatedByServerError
        from ldap3.operation.search import search_operation
        from ldap3.protocol.rfc4511 import Control
except ImportError as error:
    raise ConfigurationError(
        f'directory = "ldap" needs ldap3 ({error}): pip install "flask-genesys-auth[ldap]"'
    ) from error

SUBTREE, ONE_LEVEL = ldap3.SUBTREE, ldap3.LEVEL

SUCCESS = 0
SIZE_LIMIT_EXCEEDED = 4
CONSTRAINT_VIOLATION = 19
NO_SUCH_OBJECT = 32
INVALID_CREDENTIALS = 49
UNWILLING_TO_PERFORM = 53

_TEMPORARY = frozenset({3, 11, 51, UNWILLING_TO_PERFORM})
"""timeLimitExceeded, adminLimitExceeded, busy: they say nothing about the server's health."""
_SERVER_FAULT = frozenset({1, 2, 52, 80})
"""operationsError, protocolError, unavailable, other."""
_NO_PASSWORD = frozenset({NO_SUCH_OBJECT, 48})
"""The entry does not exist, or it has no password (inappropriateAuthentication)."""
_ADVICE: Mapping[int, str] = {
    7: "it accepts no passwords here: check its configuration",
    8: "it requires TLS: use ldaps:// or start_tls = true",
    10: "it refers to another server, and referrals are not followed: put that server into ldap.servers",
    13: "it requires TLS: use ldaps:// or start_tls = true",
    34: "it reads this as an invalid distinguished name: check ldap.user_dn and ldap.base",
    NO_SUCH_OBJECT: "the entry does not exist: check ldap.base and ldap.group_base, and what bind_dn may read",
    50: "bind_dn may not do this: check the directory's access rules",
}

# Active Directory's sub-codes of result 49, which are Windows error codes in hexadecimal (MS-ERREF 2.2).
_SUB_CODE = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)
_SUB_CODES: Mapping[str, Reason] = {
    "525": Reason.BAD_CREDENTIALS,
    "52e": Reason.BAD_CREDENTIALS,
    "52f": Reason.LOGON_RESTRICTED,
    "530": Reason.LOGON_RESTRICTED,
    "531": Reason.LOGON_RESTRICTED,
    "532": Reason.PASSWORD_EXPIRED,
    "533": Reason.DISABLED_IN_DIRECTORY,
    "569": Reason.LOGON_RESTRICTED,
    "701": Reason.EXPIRED_IN_DIRECTORY,
    "773": Reason.PASSWORD_MUST_CHANGE,
    "775": Reason.LOCKED_IN_DIRECTORY,
}
_NO_LOGON_SERVERS = "51f"

# 389 Directory Server has no codes for these; its messages begin so.
_INACTIVATED = "account inactivated"
_RETRY_LIMIT = "exceed password retry limit"

_START_TLS = "1.3.6.1.4.1.1466.20037"
_PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an object identifier
"""The control by which a server states why it rejects (draft-behera-ldap-password-policy-10, 6)."""
_POLICY_ERRORS: Mapping[int, Reason] = {
    0: Reason.PASSWORD_EXPIRED,
    1: Reason.LOCKED_IN_DIRECTORY,
    2: Reason.PASSWORD_MUST_CHANGE,
}
# Made once, because that takes a tenth of the time of a bind; it is only read.
_POLICY_REQUEST = Control()
_POLICY_REQUEST["controlType"] = _PASSWORD_POLICY
_POLICY_REQUEST["criticality"] = False

_FROM_ONE_ENTRY = (TooMuch, KeyError)
"""Errors that one entry can cause, a large one or one on another server: they must not open the circuit for others.

ldap3 raises ``KeyError`` if a bind is referred to another server.
"""


class NoAnswer(Exception):
    """The server has not answered whether the password is good; never a rejection.

    :param healthy: whether the server is healthy; ``None``: not known.
    :param try_next: another server may answer.
    """

    def __init__(
        self, outcome: Unavailable, *, healthy: bool | None, try_next: bool = True, code: int | None = None
    ) -> None:
        super().__init__(outcome.detail)
        self.code = code
        self.outcome = outcome
        self.healthy = healthy
        self.try_next = try_next


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an operation.

    :param policy: the error of the password policy, if the server sent one.
    """

    code: int
    name: str = ""
    message: str = ""
    policy: Reason | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Result:
        """Read ldap3's form of a result."""
        control = result.get("controls", {}).get(_PASSWORD_POLICY)
        policy = policy_error(bytes(control["value"] or b"")) if control else None
        return cls(int(result["result"]), str(result["description"]), str(result["message"]), policy)

    def __str__(self) -> str:
        said = f": {printable(self.message)}" if self.message else ""
        return f"result {self.code} ({printable(self.name, 40)}){said}"


def check_user_bind(result: Result) -> Rejected | None:
    """Return why a user is rejected, or ``None`` if the password is good.

    :raises NoAnswer: if the result does not show it.
    """
    if result.code in {SUCCESS, INVALID_CREDENTIALS} and result.policy is not None:
        return Rejected(result.policy, "from the password policy control")
    if result.code == SUCCESS:
        return None
    if result.code in _NO_PASSWORD:
        return Rejected(Reason.BAD_CREDENTIALS, str(result))
    if result.code == INVALID_CREDENTIALS:
        found = _SUB_CODE.search(result.message)
        code = found[1].lower() if found else ""
        if code == _NO_LOGON_SERVERS:
            raise NoAnswer(_no_answer(f"{result}: it reaches no domain controller"), healthy=False)
        detail = f"sub-code {code}" if code else "result 49"
        return Rejected(_SUB_CODES.get(code, Reason.BAD_CREDENTIALS), detail)
    said = result.message.lower()
    if result.code == UNWILLING_TO_PERFORM and said.startswith(_INACTIVATED):
        return Rejected(Reason.DISABLED_IN_DIRECTORY, str(result))
    if result.code == CONSTRAINT_VIOLATION and said.startswith(_RETRY_LIMIT):
        return Rejected(Reason.LOCKED_IN_DIRECTORY, str(result))
    raise unanswered(result)


def check_service_bind(result: Result) -> None:
    """Check the bind of the service account.

    :raises NoAnswer: if it is rejected. It counts as an outage, so that repeated logins do not lock the account.
    """
    if result.code == SUCCESS and result.policy is None:
        return
    said = str(result) if result.policy is None else str(result.policy)
    advice = _ADVICE.get(result.code, "check ldap.bind_dn and ldap.bind_password")
    try_next = result.code not in {SUCCESS, INVALID_CREDENTIALS}
    raise NoAnswer(_no_answer(f"bind_dn is rejected, {said}: {advice}"), healthy=False, try_next=try_next)


def unanswered(result: Result, *, hint: str = "") -> NoAnswer:
    """Return the error for a result that does not answer the question."""
    advice = _ADVICE.get(result.code, hint)
    detail = f"{result}; {advice}" if advice else str(result)
    healthy = False if result.code in _SERVER_FAULT else None if result.code in _TEMPORARY else True
    return NoAnswer(_no_answer(detail), healthy=healthy, code=result.code)


def _no_answer(detail: str) -> Unavailable:
    return Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True)


def policy_error(value: bytes) -> Reason | None:
    """Return the error in the value of a password policy control; ``None`` for any other error, or a warning.

    The value is ``SEQUENCE { warning [0] CHOICE OPTIONAL, error [1] ENUMERATED OPTIONAL }``.
    """
    if len(value) < 2 or value[0] != 0x30 or value[1] != len(value) - 2:
        return None
    place = 2
    while place + 1 < len(value):
        tag, length = value[place], value[place + 1]
        content = value[place + 2 : place + 2 + length]
        if tag == 0x81 and length == 1 and content:
            return _POLICY_ERRORS.get(content[0])
        place += 2 + length
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the directory.

    :param values: octets, by the attribute's name in lower case, without options.
    """

    dn: str
    values: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """The entries that a search has found.

    :param more: there are more than the limit.
    """

    entries: tuple[Entry, ...]
    more: bool = False


def filter_problem(text: str) -> str:
    """Return why ldap3 cannot read a filter (RFC 4515), or an empty text."""
    try:
        _parsed_filter(text)
    except LDAPInvalidFilterError as error:
        return str(error) or type(error).__name__
    return ""


def _parsed_filter(text: str) -> Any:
    return search_operation("", text, ldap3.SUBTREE, ldap3.DEREF_NEVER, [], 0, 0, False, False, True)["filter"]


# Names are escaped octet by octet (RFC 4515 3). The pre-releases of ldap3 2.10 send the escapes unread, so that no user
# with an escaped character in the name would be found.
if bytes(_parsed_filter(r"(cn=\2a)")["equalityMatch"]["assertionValue"]) != b"*":
    raise ConfigurationError(
        f'ldap3 {version("ldap3")} does not read escapes in filters (RFC 4515 3): pip install "ldap3<2.10"'
    )


class _Server(ldap3.Server):
    """A server with message numbers of its own: ldap3's lock for them may be held in a forked child."""

    def __init__(self, address: LdapServer) -> None:
        super().__init__(address.host, port=address.port, get_info=ldap3.NONE, allowed_referral_hosts=[])
        self._numbers = itertools.count(1)

    def next_message_id(self) -> int:  # type: ignore[override]  # ldap3 calls it on the object, static or not
        return next(self._numbers)


class Connection:
    """An open connection, for one thread at a time. After any error it must be closed.

    It keeps no password, and no request with one.

    :ivar opened: monotonic seconds, as is ``used``.
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
        # With no_real_dsa, ldap3 does not open a connection. Our socket is connected already.
        self._wire.strategy.no_real_dsa = True
        self._wire.open(read_server_info=False)
        self._wire.strategy.no_real_dsa = False
        self._wire.socket = sock
        self._wire.closed, self._wire.listening = False, True
        self._must_bind = False
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
        :raises NoAnswer: if there is no connection by the deadline.
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
    def idle(self) -> bool:
        """Return whether the server has sent nothing unrequested, such as the end of the connection."""
        return isinstance(self._wire.socket, BoundedSocket) and self._wire.socket.idle()

    @property
    def tls_version(self) -> str:
        """``TLSv1.3`` or the like, or empty."""
        version = getattr(self._wire.socket, "version", None)
        return str(version()) if version is not None else ""

    def require_bind(self) -> None:
        """Refuse searches until the next bind has succeeded, so that no user acts as the previous one."""
        self._must_bind = True

    def bind(self, dn: str, password: str, *, counts: bool = True) -> Result:
        """Bind, and request the errors of the password policy.

        :param password: not empty, because that is an anonymous bind (RFC 4513 5.1.2); sent octet by octet.
        :param counts: the server may count a failure of this user, even if it sends no result.
        :raises ValueError: if the name or the password is empty.
        :raises NoAnswer: if there was no result.
        """
        if not dn or not password:
            raise ValueError("a bind requires a name and a password")
        wire = self._wire
        with self._operation(counts=counts):
            try:
                wire.user, wire.password, wire.authentication = dn, password.encode(), ldap3.SIMPLE
                wire.bind(read_server_info=False, controls=[_POLICY_REQUEST])
                result = Result.of(wire.result)
                self._must_bind = result.code != SUCCESS
                return result
            finally:
                wire.user = wire.password = wire.request = wire.result = None

    def search(
        self, base: str, filter_: str, *, scope: str, attributes: Sequence[str], limit: int, deadline: Deadline
    ) -> Found:
        """Return the entries that match; references to other servers are not followed.

        :raises NoAnswer: if the search failed.
        :raises RuntimeError: if a bind is required first.
        """
        if self._must_bind:
            raise RuntimeError("this connection may still be bound as the previous user")
        wire = self._wire
        with self._operation():
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
            raise unanswered(result)
        return Found(entries, more=result.code == SIZE_LIMIT_EXCEEDED)

    def read(self, dn: str, attributes: Sequence[str], deadline: Deadline) -> Entry | None:
        """Return an entry, or ``None`` if it does not exist or is not visible.

        :raises NoAnswer: if the server does not answer this.
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
        """Close the connection without an unbind request."""
        self._wire.strategy.close()

    def _released_for_tls(self) -> BoundedSocket:
        """Request TLS, and return the socket on which to begin it (RFC 4511 4.14)."""
        wire = self._wire
        with self._operation():
            wire.extended(_START_TLS)
            result = Result.of(wire.result)
        if result.code != SUCCESS:
            missed = unanswered(result, hint="it does not offer StartTLS: use ldaps://, or check its certificates")
            raise NoAnswer(missed.outcome, healthy=missed.healthy)
        sock: BoundedSocket = wire.socket
        return sock

    @contextmanager
    def _operation(self, *, counts: bool = False) -> Iterator[None]:
        """Turn any error during an operation into :class:`NoAnswer`.

        :param counts: the server may count a failure of the user.
        """
        try:
            yield
        except NoAnswer:
            raise
        except Exception as error:  # ldap3 passes on whatever its reader raises on octets that are not LDAP
            reason, detail = _described(error)
            outcome = Unavailable(reason, detail=detail, uncounted=not counts)
            raise NoAnswer(outcome, healthy=None if isinstance(error, _FROM_ONE_ENTRY) else False) from error


def _described(error: Exception) -> tuple[Reason, str]:
    if isinstance(error, TooMuch):
        return Reason.UNREADABLE_ANSWER, "the answer exceeds the size limit"
    if isinstance(error, KeyError):
        return Reason.UNREADABLE_ANSWER, "ldap3 cannot read the answer: a referral, or an unknown result code"
    if isinstance(error, TimeoutError):
        return Reason.TIMED_OUT, "no complete answer before the timeout"
    if isinstance(error, OSError):
        return Reason.SERVER_ERROR, f"the connection failed: {explain(error)}"
    if isinstance(error, LDAPSessionTerminatedByServerError):
        return Reason.SERVER_ERROR, "the server has ended the connection"
    return Reason.UNREADABLE_ANSWER, f"the answer is not LDAP ({type(error).__name__})"


def _unreachable(error: OSError) -> NoAnswer:
    detail = f"no connection: {explain(error)}"
    return NoAnswer(Unavailable(Reason.UNREACHABLE, detail=detail, uncounted=True), healthy=False)


def _entry(found: Mapping[str, Any]) -> Entry:
    values: dict[str, tuple[bytes, ...]] = {}
    for name, octets in found["raw_attributes"].items():
        plain = name.partition(";")[0].lower()
        # An attribute with several options (RFC 4512 2.5) comes several times; all of its values are kept.
        values[plain] = values.get(plain, ()) + tuple(octets or ())
    return Entry(bytes(found["raw_dn"]).decode(), values)
