"""The directory itself: its servers in turn under one deadline, a person found and bound, what is known of them."""

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
from ...config.distinguished_names import escape_value, normal, parse
from ...config.names import fold
from ...config.rules import DN, USER
from ...errors import ConfigurationError
from ...upstream import Deadline, Guard
from .connection import ONE_LEVEL, SUBTREE, Connection, Entry, check_filter
from .results import NoAnswer, of_user_bind
from .server import Call, DirectoryServer, directory_checks

if TYPE_CHECKING:
    from ...checks import Check
    from ...config.settings import ConfigurationServer, Ldap

MOST_GROUPS = 1000
"""Groups that a search may find; with more, nobody could tell which roles are missing."""

Verdict: TypeAlias = "DirectoryEntry | Rejected"
_FOR_DISPLAY = frozenset({"email", "first_name", "last_name"})
_NOT_ASKED = frozenset({Reason.CIRCUIT_OPEN, Reason.UPSTREAM_BUSY})
_PLAIN = re.compile(r"[!-~]+", re.ASCII)
_BARE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SCOPES = {"subtree": SUBTREE, "one_level": ONE_LEVEL}


class LdapDirectory:
    """Implements :class:`~flask_genesys_auth.chain.protocols.Directory` over LDAP (RFC 4511, 4513).

    :param settings: of the Configuration Server step, with its ``ldap`` table.
    :param guard: limits the calls to its servers; default: one of its own.
    :param contact_center: the contact center's name, for error messages.
    :param clock: returns seconds that never go back; the age of idle connections is measured by it.
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
        self._contact_center = contact_center
        if settings.ldap is None:
            raise ConfigurationError(f'{self._path}: is required with directory = "ldap"')
        self._settings = settings.ldap
        self._timeout = settings.timeout
        self._guard = guard or Guard(concurrent=settings.concurrent_calls)
        self._check_filters()
        self._person = _Person(settings.ldap)
        self._servers = [
            DirectoryServer(
                address,
                settings.ldap,
                certificates=settings.ca_file,
                connections=settings.concurrent_calls,
                clock=clock,
            )
            for address in settings.ldap.servers
        ]

    def __repr__(self) -> str:
        return f"LdapDirectory({', '.join(server.name for server in self._servers)})"

    @property
    def _path(self) -> str:
        return f"contact_centers.{self._contact_center}.configuration_server.ldap"

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        """Ask the servers in turn, until one has answered, whether they belong together.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        if not user_name or not password:
            # To the server it would be an anonymous bind, which succeeds (RFC 4513 5.1.2).
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password is empty")
        if "\0" in user_name or "\0" in password:
            # What is written in C may end there, and find the password empty.
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password has a NUL in it")
        try:
            (user_name + password).encode()
        except UnicodeEncodeError:
            return Rejected(Reason.BAD_CREDENTIALS, "the user name or the password is no text in UTF-8")
        return self._in_turn(lambda call: self._person.verify(call, user_name, password))

    def checks(self) -> tuple[Check, ...]:
        """Return what is to be said of the directory: each server is asked, whatever the guard thinks of it."""
        return tuple(directory_checks("configuration_server.ldap", self._settings, self._servers, self._timeout))

    def close(self) -> None:
        """Let go of idle connections; new ones are made when it is used again."""
        for server in self._servers:
            server.close()

    def _in_turn(self, ask: Callable[[Call], Verdict]) -> Verdict | Unavailable:
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
                    with server.asked(deadline.share(len(self._servers) - place)) as call:
                        verdict = ask(call)
                except NoAnswer as why:
                    missed.append(replace(why.outcome, detail=f"{server.name}: {why.outcome.detail}"))
                    if why.well:
                        passage.answered()
                    elif why.well is False:
                        passage.failed(why.outcome.detail)
                    if not why.elsewhere:
                        break
                else:
                    passage.answered()
                    return verdict
        return _of_all(missed)

    def _check_filters(self) -> None:
        for key in ("filter", "group_filter"):
            sample = fill_filter(getattr(self._settings, key), user="ann", dn="uid=ann")
            try:
                check_filter(sample)
            except ValueError as error:
                raise ConfigurationError(f"{self._path}.{key}: is no filter (RFC 4515): {error}") from None


class _Person:
    """How a person is found, bound and read."""

    def __init__(self, settings: Ldap) -> None:
        self._settings = settings
        names = settings.attributes
        self._wanted = {field.name: getattr(names, field.name) for field in fields(names) if getattr(names, field.name)}
        self._attributes = sorted(set(self._wanted.values()))
        self._template_says = _template_says(settings)

    def verify(self, call: Call, user: str, password: str) -> Verdict:
        """Return who it is, or why nobody; :class:`NoAnswer` comes from below."""
        if self._settings.user_dn:
            return self._by_template(call, user, password)
        found = self._search(call, user)
        if isinstance(found, Rejected):
            # Nobody is bound all the same, so that whoever is not found takes as long.
            self._bind(call, nobody(self._settings.base), password)
            return found
        refused = self._bind(call, found.dn, password)
        if refused is not None:
            return refused
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
            return Rejected(Reason.BAD_CREDENTIALS, "the directory has no entry of this name")
        return found.entries[0]

    def _bind(self, call: Call, dn: str, password: str) -> Rejected | None:
        with call.person() as connection:
            return of_user_bind(connection.bind(dn, password))

    def _by_template(self, call: Call, user: str, password: str) -> Verdict:
        dn = fill_name(self._settings.user_dn, user)
        with call.person() as connection:
            refused = of_user_bind(connection.bind(dn, password))
            if refused is not None:
                return refused
            if self._template_says and spells_itself(user):
                return DirectoryEntry({"username": user})
            if self._settings.bind_password is None:
                return self._read(connection, call, user, dn)
        with call.service() as connection:
            return self._read(connection, call, user, dn)

    def _read(self, connection: Connection, call: Call, user: str, dn: str) -> Verdict:
        entry = connection.read(dn, self._attributes, call.deadline)
        if entry is None:
            detail = "the person's own entry cannot be read: look at the directory's access rules, or set ldap.bind_dn"
            raise NoAnswer(Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True), well=True)
        groups = self._groups(connection, call, user, entry) if self._settings.group_base else ()
        return self._described(user, entry, groups)

    def _groups(self, connection: Connection, call: Call, user: str, entry: Entry) -> tuple[str, ...]:
        settings = self._settings
        # By what was typed, such as an address that people write themselves, somebody else's groups could be found.
        name = _text("username", _values(entry, settings.attributes.username), user)
        if USER in settings.group_filter and not name:
            return ()
        found = connection.search(
            settings.group_base,
            fill_filter(settings.group_filter, user=name, dn=entry.dn),
            scope=SUBTREE,
            attributes=[],
            limit=MOST_GROUPS,
            deadline=call.deadline,
        )
        if found.more:
            detail = f"the person has more than {MOST_GROUPS} groups below ldap.group_base, or there are limits on them"
            raise NoAnswer(Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True), well=True)
        return tuple(entry.dn for entry in found.entries)

    def _described(self, user: str, entry: Entry, groups: Sequence[str] = ()) -> DirectoryEntry:
        found = {ours: _text(ours, _values(entry, theirs), user) for ours, theirs in self._wanted.items()}
        member_of = _values(entry, found_by) if (found_by := self._wanted.get("groups")) else []
        return DirectoryEntry(
            {ours: text for ours, text in found.items() if text and ours != "groups"},
            groups=tuple(sorted({normal(group) for group in (*groups, *member_of)})),
        )


def _template_says(settings: Ldap) -> bool:
    """Tell whether all that is wanted of a person is the name that the template puts in."""
    wanted = replace(settings.attributes, username="")
    if any(getattr(wanted, field.name) for field in fields(wanted)) or settings.group_base:
        return False
    return any((settings.attributes.username.lower(), USER) in step for step in parse(settings.user_dn) or ())


def _values(entry: Entry, attribute: str) -> list[str]:
    """Return what an attribute says; values that are no text are left out."""
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
    """Return the one value; of several by which an account could be found, the one that was typed, or none."""
    if len(values) > 1 and ours not in _FOR_DISPLAY:
        return next((value for value in values if fold(value) == user), "")
    return values[0] if values else ""


def _of_all(missed: Sequence[Unavailable]) -> Unavailable:
    """Return what it comes to that no server has answered.

    The last one has the word that may have counted a failure of the person's, else the last that was asked: the reason
    of one that was not reached would give an attempt back which another has counted.
    """
    if not missed:
        return Unavailable(Reason.TIMED_OUT, detail="the deadline passed before a server was asked", uncounted=True)
    asked = [one for one in missed if one.reason not in _NOT_ASKED]
    counted = [one for one in missed if not one.uncounted]
    last = (counted or asked or missed)[-1]
    return Unavailable(
        last.reason,
        retry_after=min(one.retry_after for one in missed),
        detail="; ".join(one.detail for one in missed),
        uncounted=all(one.uncounted for one in missed),
    )


def filter_value(text: str) -> str:
    r"""Return text as it stands for itself in a filter: every octet but letters and digits as ``\xx`` (RFC 4515 3).

    More than must be escaped, for ldap3 strips spaces and counts parentheses.
    """
    return "".join(chr(octet) if octet in _BARE else f"\\{octet:02x}" for octet in text.encode())


def fill_filter(template: str, *, user: str, dn: str = "") -> str:
    """Return a filter with the names put in."""
    # What was put in first holds no brace that is not escaped.
    return template.replace(USER, filter_value(user)).replace(DN, filter_value(dn))


def fill_name(template: str, user: str) -> str:
    """Return a distinguished name with the user's put in."""
    return template.replace(USER, escape_value(user))


def nobody(base: str) -> str:
    """Return a distinguished name that no entry has, below a base.

    Whoever is not found is bound as nobody, so that they take as long as those with a wrong password.
    """
    return f"cn={secrets.token_hex(16)},{base}"


def spells_itself(name: str) -> bool:
    """Tell whether a directory that compares loosely (RFC 4518) can only mean this very name by it.

    It takes wide letters for narrow ones and many spaces for one; so a name with such characters counts as it
    stands in the directory, not as it was typed.
    """
    return _PLAIN.fullmatch(name) is not None
