"""What users implement: steps, directories and stores, with the values that these are given or return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..config.settings import ContactCenterSettings
    from .evidence import Evidence
    from .outcomes import Identity, Outcome, Rejected, Unavailable

U_co = TypeVar("U_co", covariant=True)
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a step offers a client that must authenticate.

    :param scheme: a ``WWW-Authenticate`` challenge (RFC 9110 11.6.1), or empty.
    :param location: where a browser begins to log in (a path on this host, or an address), or empty.
    """

    scheme: str = ""
    location: str = ""


@runtime_checkable
class Step(Protocol):
    """One step of the chain. It may also carry ``before``, the name of the step it stands before."""

    name: str

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Look at the evidence and say how it went; raising is a bug and ends the request in 500."""
        ...

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Return what a client that must authenticate is offered, or ``None``."""
        ...


@dataclass(frozen=True, slots=True)
class ContactCenter:
    """A contact center with the steps of its chain, in order; disabled ones are there and say so.

    :ivar name: the table's name.
    """

    settings: ContactCenterSettings
    steps: tuple[Step, ...]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.settings.name)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A person whose password a directory found good.

    :param attributes: what it says of the person, text by name: ``username``, ``login_name``, ``cme_user_name``,
        ``identity``, ``contact_center_id``, ``email``, ... as far as it knows them.
    :param groups: the names of the groups the person is in.
    """

    attributes: Mapping[str, str]
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))


class Directory(Protocol):
    """Whom the Configuration Server step asks whether a name and a password belong together."""

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        """Ask; answers within the step's time-out.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        ...


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the chain must know of an account, read anew at every request.

    :param account_id: text that ``AccountStore.get`` takes.
    :param contact_center: the table's name, or ``None`` if the store does not keep contact centers apart.
    :param version: changes when the password does; what was remembered under another version is forgotten. While it is
        empty, the password of the account is verified at every request.
    """

    account_id: str
    enabled: bool = True
    roles: frozenset[str] = frozenset()
    contact_center: str | None = None
    version: str = ""


@runtime_checkable
class AccountStore(Protocol[U_co]):
    """Who a proven identity is here. Raises ``AccountsUnavailable`` when it cannot tell.

    A store may also have ``describe(user) -> AccountState``; without it ``user.get_id()``, ``user.is_active`` and
    ``user.roles`` are read (Flask-Login's conventions).
    """

    def find(self, identity: Identity) -> U_co | None:
        """Return the account that this identity is in its contact center, or ``None``."""
        ...

    def get(self, account_id: str) -> U_co | None:
        """Return the account of this id, or ``None``."""
        ...


@runtime_checkable
class PlainAccounts(Protocol):
    """An account store whose users are values: no request changes them, and another thread may read them later.

    Only users of such a store are remembered for ``session.revocation_delay``. One that is bound to a database's
    session is not such a value: it would be read outside of its own request, or by two threads at once.
    """

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this after every change to an account that this process makes, or may have made."""
        ...


@runtime_checkable
class PasswordStore(Protocol):
    """Where the Web Services step finds password hashes. Raises ``AccountsUnavailable`` when it cannot tell."""

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        """Return the PHC string of this account, or ``None`` without an account or a password.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        ...

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the account's hash is still ``old`` (a re-hash under new parameters, not a new password)."""
        ...


@runtime_checkable
class EnrollingStore(Protocol):
    """What an account store needs so that a SAML login can link, make and change accounts (see ``docs/saml.md``).

    Raises ``AccountsUnavailable`` when it cannot tell.
    """

    def link_by_name(self, contact_center: str, user_name: str, provider: str, value: str) -> bool:
        """Link a value to the enabled account of this name that has none of this provider yet (atomic).

        Tell whether it was linked. Nothing but the name says whose account this is, so it must be the account's own,
        character for character but for the case of ASCII letters: folded, mailboxes of two people may be one name.
        """
        ...

    def provision(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Make the account of this identity, linked to it, named by its subject, unless the name is taken (atomic).

        Tell whether it was made.
        """
        ...

    def follow_roles(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Give the account of this identity exactly these roles; tell whether that changed anything."""
        ...


class StateStore(Protocol):
    """Small values with an end. Raises :class:`~flask_genesys_auth.errors.StateUnavailable` when it cannot tell.

    Keys and index terms are text of at most 255 characters, none of them NUL; ``ttl`` is in seconds and greater than 0.
    """

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        ...

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        ...

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        ...

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        ...

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        ...

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        ...

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        ...

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself.

        What carries it from the first look to the last is in one of them, or in several; what comes or goes meanwhile
        may be.
        """
        ...

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic).

        :returns: how many; 0: there are none, or no more.
        """
        ...

    def purge(self) -> int:
        """Delete what has expired; return how many."""
        ...

    def close(self) -> None:
        """Let go of connections; the store opens them anew when it is used again."""
        ...


class Describe(Protocol):
    """How the chain learns an account's state from the application's own user object."""

    def __call__(self, user: Any) -> AccountState:
        """Return the state of this account."""
        ...
