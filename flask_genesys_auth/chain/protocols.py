"""The protocols that an application can implement: steps, directories and stores, with their values."""

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
    """Describes to a client how to authenticate.

    :param scheme: a ``WWW-Authenticate`` challenge (RFC 9110 11.6.1), or empty.
    :param location: the login address for a browser (a path on this host, or a URL), or empty.
    """

    scheme: str = ""
    location: str = ""


@runtime_checkable
class Step(Protocol):
    """One step of the chain. Its optional ``before`` names the step that it is placed before."""

    name: str

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Verify the evidence. An exception is a bug and ends the request with 500."""
        ...

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Return how a client can authenticate with this step, or ``None``."""
        ...


@dataclass(frozen=True, slots=True)
class ContactCenter:
    """A contact center with its steps in order, including disabled ones.

    :ivar name: its name in the configuration.
    """

    settings: ContactCenterSettings
    steps: tuple[Step, ...]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.settings.name)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """The entry of a user whose password a directory has accepted.

    :param attributes: text by name, as far as known: ``username``, ``login_name``, ``cme_user_name``, ``identity``,
        ``contact_center_id``, ``email``, ...
    :param groups: the names of the user's groups.
    """

    attributes: Mapping[str, str]
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))


class Directory(Protocol):
    """Verifies user names and passwords for the Configuration Server step."""

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        """Verify a user name and a password within the step's ``timeout``.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        ...


@dataclass(frozen=True, slots=True)
class AccountState:
    """The state of an account, read for every request.

    :param account_id: the text that ``AccountStore.get`` takes.
    :param contact_center: its name in the configuration, or ``None`` if the store has no contact centers.
    :param version: changes with the password; a cached result for another version is not used. While it is empty, the
        account's password is verified for every request.
    """

    account_id: str
    enabled: bool = True
    roles: frozenset[str] = frozenset()
    contact_center: str | None = None
    version: str = ""


@runtime_checkable
class AccountStore(Protocol[U_co]):
    """Finds the account of a proven identity. Raises ``AccountsUnavailable`` if it cannot answer.

    A store may also have ``describe(user) -> AccountState``. Otherwise ``user.get_id()``, ``user.is_active`` and
    ``user.roles`` are read, by Flask-Login's conventions.
    """

    def find(self, identity: Identity) -> U_co | None:
        """Return the account of this identity in its contact center, or ``None``."""
        ...

    def get(self, account_id: str) -> U_co | None:
        """Return the account with this id, or ``None``."""
        ...


@runtime_checkable
class PlainAccounts(Protocol):
    """An account store whose users are immutable values, which other requests and threads may read later.

    Only users of such a store are cached for ``session.revocation_delay``. A user that is bound to a database session
    must not be cached: it would be read outside of its own request, or by two threads at once.
    """

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change to an account that this process makes, or may have made."""
        ...


@runtime_checkable
class PasswordStore(Protocol):
    """Stores password hashes for the Web Services step. Raises ``AccountsUnavailable`` if it cannot answer."""

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        """Return the PHC string of this account, or ``None`` if it has no password or does not exist.

        :param user_name: as looked up: without its realm, in NFC and case-folded.
        """
        ...

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        """Store ``new`` if the account's hash is still ``old`` (a re-hash with new parameters, not a new password)."""
        ...


@runtime_checkable
class EnrollingStore(Protocol):
    """An account store in which a SAML login can link, create and change accounts (see ``docs/saml.md``).

    Raises ``AccountsUnavailable`` if it cannot answer. Each method returns whether it has changed anything.
    """

    def link_by_name(self, contact_center: str, user_name: str, provider: str, value: str) -> bool:
        """Link a value to the enabled account of this name that has no value of this provider yet (atomic).

        The name alone decides, so it must equal the account's, except for the case of ASCII letters: after case
        folding, the mailboxes of two users may have the same name.
        """
        ...

    def provision(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Create the account of this identity, linked to it and named by its subject, unless it exists (atomic)."""
        ...

    def follow_roles(self, identity: Identity, roles: frozenset[str]) -> bool:
        """Give the account of this identity exactly these roles."""
        ...


class StateStore(Protocol):
    """Stores small values that expire. Raises :class:`~flask_genesys_auth.errors.StateUnavailable` if it cannot answer.

    Keys and index terms are text of at most 255 characters without NUL; ``ttl`` is in seconds and greater than 0.
    """

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key exists (atomic); return whether it was stored."""
        ...

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value; ``index`` replaces all index terms of the key."""
        ...

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Replace the value of a key that exists (atomic) and keep its index terms; return whether it existed."""
        ...

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` if there is none or it has expired."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        ...

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: only one of several callers gets it), or ``None``."""
        ...

    def delete(self, key: str) -> bool:
        """Delete the key; return whether it existed."""
        ...

    def find(self, term: str) -> list[str]:
        """Return the keys that have this index term and have not expired."""
        ...

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the keys of :meth:`find` in batches, each from a query of its own.

        A key that has the term throughout is in at least one batch. One that is added or removed meanwhile may
        be in a batch.
        """
        ...

    def delete_found(self, term: str) -> int:
        """Delete one batch of the keys of :meth:`find` (atomic); return how many, 0 if none is left."""
        ...

    def purge(self) -> int:
        """Delete expired keys; return how many."""
        ...

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        ...


class Describe(Protocol):
    """Returns the account state of the application's user object."""

    def __call__(self, user: Any) -> AccountState:
        """Return the state of this account."""
        ...
