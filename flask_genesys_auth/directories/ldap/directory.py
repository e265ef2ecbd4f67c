"""The LDAP directory: tries its servers in turn by one deadline; finds, binds and reads a user."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeAlias

from ...chain.outcomes import Reason, Rejected, Unavailable
from ...chain.protocols import DirectoryEntry
from ...config.names import escape_dn_value, fold, normalise_dn, parse_dn
from ...config.rules import DN, USER
from ...errors import ConfigurationError
from ...upstream import Deadline, Guard
from .connection import ONE_LEVEL, SUBTREE, Connection, Entry, NoAnswer, check_user_bind, filter_problem
from .server import Call, DirectoryServer, directory_checks

if TYPE_CHECKING:
    from ...checks import Check
    from ...config.settings import ConfigurationServer, Ldap

MAX_GROUPS = 1000
"""Groups that a search may find; with more, some roles could be missing unnoticed."""

Verdict: TypeAlias = "DirectoryEntry | Rejected"
_FOR_DISPLAY = frozenset({"email", "first_name", "last_name"})
_NOT_CALLED = frozenset({Reason.CIRCUIT_OPEN, Reason.UPSTREAM_BUSY})
_VISIBLE_ASCII = re.compile(r"[!-~]+", re.ASCII)
_UNESCAPED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SCOPES = {"subtree": SUBTREE, "one_level": ONE_LEVEL}


class LdapDirectory:
    """Implements :class:`~flask_genesys_auth.chain.protocols.Directory` over LDAP (RFC 4511, 4513).

    :raises ConfigurationError: if there is no ``ldap`` table, or ldap3 cannot read a filter.
    """

    def __init__(
        self,
        settings: ConfigurationServer,
        guard: Guard | None = None,
        *,
        contact_center: str = "NAME",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        path = f"contact_centers.{contact_center}.configuration_server.ldap"
        ldap = settings.ldap
        if ldap is None:
            raise ConfigurationError(f'{path}: is required with directory = "ldap"')
        for key in ("filter", "group_filter"):
            problem = filter_problem(fill_filter(getattr(ldap, key), user="ann", dn="uid=ann"))
            if problem:
                raise ConfigurationError(f"{path}.{key}: is not a valid filter (RFC 4515): {problem}")
        self._settings = ldap
        self._timeout = settings.timeout
        self._guard = guard or Guard(concurrent=settings.concurrent_calls)
        self._users = _Users(ldap)
        certificates, most = settings.ca_file, settings.concurrent_calls
        self._servers = [
            DirectoryServer(address, ldap, certificates=certificates, connections=most, clock=clock)
            for address in ldap.servers
        ]

    def __repr__(self) -> str:
        return f"LdapDirectory({', '.join(server.name for server in self._servers)})"

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        """Verify a user name and a password with the first server that answers.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        if not user_name or not password:
            # The server would take it as an anonymous bind, which succeeds (RFC 4513 5.1.2).
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password is empty")
        if "\0" in user_name or "\0" in password:
            # A server written in C may end the text there, and see an empty password.
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password contains NUL")
        try:
            (user_name + password).encode()
        except UnicodeEncodeError:
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password is not UTF-8")
        return self._first_answer(user_name, password)

    def checks(self) -> tuple[Check, ...]:
        """Return the health checks of every server; they bypass the guard."""
        return tuple(directory_checks("configuration_server.ldap", self._settings, self._servers, self._timeout))

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        for server in self._servers:
            server.close()

    def _first_answer(self, user_name: str, password: str) -> Verdict | Unavailable:
        deadline = Deadline(self._timeout)
        missed: list[Unavailable] = []
        for place, server in enumerate(self._servers):
            if deadline.spent:
                break
            passage = self._guard.enter(server.name, self._settings.bind_dn, within=deadline.left)
            if isinstance(passage, Unavailable):
                missed.append(passage)
                continue
            with passage:
                try:
                    with server.call(deadline.share(len(self._servers) - place)) as call:
                        verdict = self._users.verify(call, user_name, password)
                except NoAnswer as why:
                    missed.append(replace(why.outcome, detail=f"{server.name}: {why.outcome.detail}"))
                    if why.healthy:
                        passage.answered()
                    elif why.healthy is False:
                        passage.failed(why.outcome.detail)
                    if not why.try_next:
                        break
                else:
                    passage.answered()
                    return verdict
        return _combined(missed)


class _Users:
    """Finds, binds and reads users; each method passes on ``NoAnswer``."""

    def __init__(self, settings: Ldap) -> None:
        self._settings = settings
        names = settings.attributes
        self._wanted = {field.name: getattr(names, field.name) for field in fields(names) if getattr(names, field.name)}
        self._attributes = sorted(set(self._wanted.values()))
        self._name_is_enough = _name_is_enough(settings)

    def verify(self, call: Call, user: str, password: str) -> Verdict:
        """Return the user's entry, or why the user is rejected."""
        if self._settings.user_dn:
            return self._by_template(call, user, password)
        found = self._search(call, user)
        if isinstance(found, Rejected):
            # A bind all the same, so that an unknown name takes as long as a wrong password.
            self._bind(call, unused_dn(self._settings.base), password)
            return found
        rejected = self._bind(call, found.dn, password)
        if rejected is not None:
            return rejected
        if not self._settings.group_base:
            return self._described(user, found)
        with call.service() as connection:
            return self._described(user, found, self._groups(connection, call, user, found))

    def _search(self, call: Call, user: str) -> Entry | Rejected:
        settings = self._settings
        with call.service() as connection:
            found = connection.search(
                settings.base,
                fill_filter(settings.filter, user=user),
                scope=_SCOPES[settings.scope],
                attributes=self._attributes,
                limit=2,
                deadline=call.deadline,
            )
        if found.more or len(found.entries) > 1:
            return Rejected(Reason.AMBIGUOUS_NAME, "the directory has more than one entry of this name")
        if not found.entries or not found.entries[0].dn:
            return Rejected(Reason.BAD_CREDENTIALS, "the directory has no entry with this name")
        return found.entries[0]

    def _bind(self, call: Call, dn: str, password: str) -> Rejected | None:
        with call.user() as connection:
            return check_user_bind(connection.bind(dn, password))

    def _by_template(self, call: Call, user: str, password: str) -> Verdict:
        dn = fill_name(self._settings.user_dn, user)
        with call.user() as connection:
            rejected = check_user_bind(connection.bind(dn, password))
            if rejected is not None:
                return rejected
            if self._name_is_enough and is_unambiguous(user):
                return DirectoryEntry({"username": user})
            if self._settings.bind_password is None:
                return self._read(connection, call, user, dn)
        with call.service() as connection:
            return self._read(connection, call, user, dn)

    def _read(self, connection: Connection, call: Call, user: str, dn: str) -> Verdict:
        entry = connection.read(dn, self._attributes, call.deadline)
        if entry is None:
            raise _incomplete("the user's entry cannot be read: check the directory's access rules or set ldap.bind_dn")
        groups = self._groups(connection, call, user, entry) if self._settings.group_base else ()
        return self._described(user, entry, groups)

    def _groups(self, connection: Connection, call: Call, user: str, entry: Entry) -> tuple[str, ...]:
        settings = self._settings
        # Never by the name that was typed: users can change some of the attributes by which they are found.
        name = _text("username", _values(entry, settings.attributes.username), user)
        if USER in settings.group_filter and not name:
            return ()
        found = connection.search(
            settings.group_base,
            fill_filter(settings.group_filter, user=name, dn=entry.dn),
            scope=SUBTREE,
            attributes=[],
            limit=MAX_GROUPS,
            deadline=call.deadline,
        )
        if found.more:
            raise _incomplete(f"more than {MAX_GROUPS} groups below ldap.group_base, or more than the server's limit")
        return tuple(entry.dn for entry in found.entries)

    def _described(self, user: str, entry: Entry, groups: Sequence[str] = ()) -> DirectoryEntry:
        found = {ours: _text(ours, _values(entry, theirs), user) for ours, theirs in self._wanted.items()}
        member_of = _values(entry, found_by) if (found_by := self._wanted.get("groups")) else []
        return DirectoryEntry(
            {ours: text for ours, text in found.items() if text and ours != "groups"},
            groups=tuple(sorted({normalise_dn(group) for group in (*groups, *member_of)})),
        )


def _incomplete(detail: str) -> NoAnswer:
    """Return the error for a good password whose entry or groups cannot be read."""
    return NoAnswer(Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True), healthy=True)


def _name_is_enough(settings: Ldap) -> bool:
    """Return whether the only wanted attribute is the name that the template contains."""
    others = replace(settings.attributes, username="")
    if any(getattr(others, field.name) for field in fields(others)) or settings.group_base:
        return False
    return any((settings.attributes.username.lower(), USER) in step for step in parse_dn(settings.user_dn) or ())


def _values(entry: Entry, attribute: str) -> list[str]:
    """Return the values of an attribute; values that are not text are left out."""
    octets = entry.values.get(attribute.lower(), ())
    if attribute.lower() == "objectguid":
        return [str(uuid.UUID(bytes_le=value)) for value in octets if len(value) == 16]
    return [text for value in octets if (text := _decoded(value))]


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""


def _text(ours: str, values: list[str], user: str) -> str:
    """Return the value; of several values that could find an account, the one that was typed, or none."""
    if len(values) > 1 and ours not in _FOR_DISPLAY:
        return next((value for value in values if fold(value) == user), "")
    return values[0] if values else ""


def _combined(missed: Sequence[Unavailable]) -> Unavailable:
    """Return one outcome for servers that have all failed to answer.

    The reason is that of the last server that may have counted a failure, else of the last that was called. The reason
    of an unreachable server would return the slot of an attempt that another server has counted.
    """
    if not missed:
        return Unavailable(Reason.TIMED_OUT, detail="the deadline passed before a server was called", uncounted=True)
    called = [one for one in missed if one.reason not in _NOT_CALLED]
    counted = [one for one in missed if not one.uncounted]
    last = (counted or called or missed)[-1]
    return Unavailable(
        last.reason,
        retry_after=min(one.retry_after for one in missed),
        detail="; ".join(one.detail for one in missed),
        uncounted=all(one.uncounted for one in missed),
    )


def filter_value(text: str) -> str:
    r"""Escape text for a filter: every octet except letters and digits as ``\xx`` (RFC 4515 3).

    That is more than RFC 4515 requires, because ldap3 strips spaces and counts parentheses.
    """
    return "".join(chr(octet) if octet in _UNESCAPED else f"\\{octet:02x}" for octet in text.encode())


def fill_filter(template: str, *, user: str, dn: str = "") -> str:
    """Return a filter with the user's names."""
    # The escaped user name has no braces, so the second replacement does not change it.
    return template.replace(USER, filter_value(user)).replace(DN, filter_value(dn))


def fill_name(template: str, user: str) -> str:
    """Return a distinguished name with the user's name."""
    return template.replace(USER, escape_dn_value(user))


def unused_dn(base: str) -> str:
    """Return a random distinguished name below a base; no entry has it."""
    return f"cn={secrets.token_hex(16)},{base}"


def is_unambiguous(name: str) -> bool:
    """Return whether a directory that compares loosely (RFC 4518) can only find this very name.

    Directories read wide letters as narrow ones and several spaces as one. A name with such characters counts as the
    directory spells it, not as it was typed.
    """
    return _VISIBLE_ASCII.fullmatch(name) is not None
