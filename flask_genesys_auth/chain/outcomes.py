"""The values of a walk: identities, outcomes, reasons, and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    U_co = TypeVar("U_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    U_co = TypeVar("U_co", covariant=True)

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Reason(str, Enum):
    """Why a step did not succeed: a closed list of codes for logs and ``explain``. A client never sees one."""

    # not applicable
    NO_EVIDENCE = "no_evidence"
    DISABLED = "disabled"
    EXPLICIT_CREDENTIALS = "explicit_credentials"
    OTHER_CONTACT_CENTER = "other_contact_center"
    NO_CONTACT_CENTER = "no_contact_center"
    BROWSER_LOGIN = "browser_login"
    # rejected: what the request carries
    MALFORMED_CREDENTIALS = "malformed_credentials"
    CONTACT_CENTER_CONFLICT = "contact_center_conflict"
    UNKNOWN_CONTACT_CENTER = "unknown_contact_center"
    BAD_CREDENTIALS = "bad_credentials"
    REFUSED = "refused"
    # rejected: the account here
    NO_ACCOUNT = "no_account"
    ACCOUNT_DISABLED = "account_disabled"
    # rejected: Salesforce
    IDENTITY_URL_NOT_ALLOWED = "identity_url_not_allowed"
    ORGANIZATION_NOT_LISTED = "organization_not_listed"
    SESSION_REFUSED = "session_refused"
    FOREIGN_IDENTITY = "foreign_identity"
    INACTIVE_IDENTITY = "inactive_identity"
    EMAIL_NOT_VERIFIED = "email_not_verified"
    UNEXPECTED_REDIRECT = "unexpected_redirect"
    # rejected: Configuration Server
    OTHER_TENANT = "other_tenant"
    AMBIGUOUS_NAME = "ambiguous_name"
    DISABLED_IN_DIRECTORY = "disabled_in_directory"
    LOCKED_IN_DIRECTORY = "locked_in_directory"
    EXPIRED_IN_DIRECTORY = "expired_in_directory"
    PASSWORD_EXPIRED = "password_expired"  # noqa: S105 - a code, not a password
    PASSWORD_MUST_CHANGE = "password_must_change"  # noqa: S105 - likewise
    LOGON_RESTRICTED = "logon_restricted"
    # rejected: login sessions
    SESSION_ENDED = "session_ended"
    # unavailable
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    SERVER_ERROR = "server_error"
    UNREADABLE_ANSWER = "unreadable_answer"
    CIRCUIT_OPEN = "circuit_open"
    UPSTREAM_BUSY = "upstream_busy"
    HASHER_BUSY = "hasher_busy"
    THROTTLE_UNAVAILABLE = "throttle_unavailable"
    STATE_UNAVAILABLE = "state_unavailable"
    ACCOUNTS_UNAVAILABLE = "accounts_unavailable"

    def __str__(self) -> str:
        return self.value


MatchedBy: TypeAlias = Literal["user_name", "email", "identity", "account_id"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user that a step has proven, before the account is found.

    :param step: the step that proved it; for a resumed login session, the step that created the session.
    :param contact_center: the name of the contact center in the configuration.
    :param subject: the value by which the account is found: a user name, an e-mail address, a linked value or an
        account id, according to ``matched_by``.
    :param attributes: further values for display, linking and provisioning. Never a secret.
    :param matched_by: what ``subject`` is compared with.
    :param provider: with ``"identity"``, the source of the value: ``salesforce``, ``configuration_server`` or the
        name of a SAML identity provider.
    """

    step: str
    contact_center: str
    subject: str
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    matched_by: MatchedBy = "user_name"
    provider: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The step succeeded.

    :param proof: a digest of the stored value that verified the credentials, for a step that has ``still_holds``.
    """

    identity: Identity
    proof: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The request has no evidence for the step, or the step is disabled."""

    reason: Reason = Reason.NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Rejected:
    """The evidence is invalid.

    :param detail: for logs and ``explain`` only; contains no secret and no unbounded text from outside.
    :param identity: the proven identity, if it has no account.
    """

    reason: Reason = Reason.REFUSED
    detail: str = ""
    identity: Identity | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The server behind the step did not answer, or a limit was reached.

    :param retry_after: seconds after which a client should retry.
    :param detail: as in :class:`Rejected`.
    :param uncounted: a directory that locks accounts has certainly not counted a failure.
    """

    reason: Reason
    retry_after: int = 5
    detail: str = ""
    uncounted: bool = False


Outcome: TypeAlias = Authenticated | NotApplicable | Rejected | Unavailable

OUTCOME_NAMES: Mapping[type, str] = MappingProxyType(
    {
        Authenticated: "authenticated",
        NotApplicable: "not_applicable",
        Rejected: "rejected",
        Unavailable: "unavailable",
    }
)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How one step of a walk ended.

    :param elapsed: seconds.
    """

    step: str
    outcome: Outcome
    elapsed: float

    @property
    def outcome_name(self) -> str:
        """``authenticated``, ``not_applicable``, ``rejected`` or ``unavailable``."""
        return OUTCOME_NAMES[type(self.outcome)]

    @property
    def reason(self) -> Reason | None:
        """Why the step did not succeed, or ``None``."""
        return None if isinstance(self.outcome, Authenticated) else self.outcome.reason


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A login session, kept in the state under a hash of its opaque id.

    :param step: the step that created it: ``saml``, ``web_services``, ``configuration_server`` or ``application``.
    :param created: unix time, as are ``last_seen`` and ``expires`` (its absolute end).
    :param provider: the SAML identity provider, with its NameID (all parts of it in one text) and SessionIndex.
    """

    contact_center: str
    account_id: str
    step: str
    created: float
    last_seen: float
    expires: float
    provider: str = ""
    name_id: str = ""
    session_index: str = ""


@dataclass(frozen=True, slots=True)
class Decision(Generic[U_co]):
    """The decision of the walk for one request; ``Decision[User]`` has a user of that class.

    :param contact_center: its name in the configuration, or ``None`` if no single one was found.
    :param user: the application's user object, or ``None`` for an anonymous request.
    :param resumed: a login session was resumed; ``authenticated_by`` is then the step that created it.
    :param roles: the roles of the account at the time of this request.
    """

    contact_center: str | None
    user: U_co | None = None
    steps: tuple[StepRecord, ...] = ()
    resumed: bool = False
    roles: frozenset[str] = frozenset()
    account_id: str | None = None

    @property
    def authenticated(self) -> bool:
        """Return whether the request has a user."""
        return self.user is not None

    @property
    def authenticated_by(self) -> str | None:
        """The name of the step that proved the identity, or ``None``."""
        if self.user is None:
            return None
        outcome = self.steps[-1].outcome
        return outcome.identity.step if isinstance(outcome, Authenticated) else None

    @property
    def throttled(self) -> bool:
        """Return whether the request is anonymous and a step was throttled (429)."""
        return any(found.reason is Reason.THROTTLED for found in self._unavailable())

    @property
    def unavailable(self) -> bool:
        """Return whether the request is anonymous and a step was unavailable (503 or 429)."""
        return bool(self._unavailable())

    @property
    def retry_after(self) -> int:
        """Seconds after which a client should retry: the longest that a step has named, at least one."""
        found = self._unavailable()
        if self.throttled:
            found = [one for one in found if one.reason is Reason.THROTTLED]
        return max([1, *(one.retry_after for one in found)])

    def explain(self) -> list[dict[str, Any]]:
        """Return one row per step, as plain values: step, outcome, milliseconds, and reason and detail if any."""
        rows: list[dict[str, Any]] = []
        for record in self.steps:
            row: dict[str, Any] = {
                "step": record.step,
                "outcome": record.outcome_name,
                "milliseconds": round(record.elapsed * 1000, 1),
            }
            if record.reason is not None:
                row["reason"] = str(record.reason)
            detail = getattr(record.outcome, "detail", "")
            if detail:
                row["detail"] = detail
            rows.append(row)
        return rows

    def _unavailable(self) -> list[Unavailable]:
        if self.user is not None:
            return []
        return [record.outcome for record in self.steps if isinstance(record.outcome, Unavailable)]
