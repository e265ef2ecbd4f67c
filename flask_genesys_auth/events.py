"""The log events of this package: a closed list, one record format, and no unescaped text from outside.

All records go to the logger ``flask_genesys_auth``. Each carries ``record.genesys_auth``: a new ``dict`` with the
fields of :data:`FIELDS` and the additional fields of its event (:data:`KINDS`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

logger = logging.getLogger("flask_genesys_auth")

FIELDS = ("event", "step", "outcome", "reason", "contact_center", "account", "address", "elapsed", "detail")
"""Fields of every record. Unused text fields are empty; an unused ``elapsed`` is ``None``."""

LONGEST_TEXT = 100
LONGEST: Mapping[str, int] = MappingProxyType({"account": 255, "upstream": 255, "detail": 500})
"""Maximum characters of a field, where it differs from :data:`LONGEST_TEXT`."""
_LONGEST_SENTENCE = 1500


class Event(str, Enum):
    """The event that a record reports: a closed list."""

    # a walk
    AUTHENTICATED = "authenticated"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    # login sessions
    LOGGED_IN = "logged_in"
    LOGGED_OUT = "logged_out"
    SESSION_REVOKED = "session_revoked"
    # refused requests of known users
    ROLE_REFUSED = "role_refused"
    ORIGIN_REFUSED = "origin_refused"
    # SAML
    SAML_REFUSED = "saml_refused"
    SAML_LOGOUT_REFUSED = "saml_logout_refused"
    SAML_LOGOUT = "saml_logout"
    SAML_METADATA_FAILED = "saml_metadata_failed"
    SAML_METADATA_REPLACED = "saml_metadata_replaced"
    SAML_METADATA_NOT_KEPT = "saml_metadata_not_kept"
    ACCOUNT_ENROLLED = "account_enrolled"
    # servers and stores
    CIRCUIT_OPENED = "circuit_opened"
    CIRCUIT_CLOSED = "circuit_closed"
    STATE_LOST = "state_lost"
    STATE_REGAINED = "state_regained"
    STATE_NOT_PURGED = "state_not_purged"
    THROTTLE_LOST = "throttle_lost"
    THROTTLE_REGAINED = "throttle_regained"
    # faults that an operator has to correct
    PASSWORD_HASH_UNREADABLE = "password_hash_unreadable"  # noqa: S105 - an event, not a password
    PASSWORD_HASH_NOT_RENEWED = "password_hash_not_renewed"  # noqa: S105 - an event, not a password
    CONFIGURATION_WARNING = "configuration_warning"
    RECEIVER_FAILED = "receiver_failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Kind:
    """The level, message and fields of an event.

    :param level: the default level of :mod:`logging`.
    :param message: with the record's fields as ``%(name)s``.
    :param more: the fields in addition to :data:`FIELDS`.
    """

    level: int
    message: str
    more: tuple[str, ...] = ()


_WHERE = "(contact center %(contact_center)r, account %(account)r, address %(address)s)"
_STEP = f"by %(step)s: %(reason)s {_WHERE} %(detail)s"
_SAML = "%(reason)s: %(detail)s (contact center %(contact_center)r, provider %(provider)r, reference %(reference)s)"
_FAILURE = ("reference", "provider")

KINDS: Mapping[Event, Kind] = MappingProxyType(
    {
        Event.AUTHENTICATED: Kind(logging.DEBUG, f"by %(step)s {_WHERE}"),
        Event.REJECTED: Kind(logging.WARNING, _STEP),
        Event.UNAVAILABLE: Kind(logging.WARNING, _STEP),
        Event.THROTTLED: Kind(logging.WARNING, _STEP),
        Event.LOGGED_IN: Kind(logging.INFO, f"by %(step)s {_WHERE}"),
        Event.LOGGED_OUT: Kind(logging.INFO, f"from a login session of step %(step)s {_WHERE}"),
        Event.SESSION_REVOKED: Kind(logging.INFO, f"login sessions ended: %(count)d {_WHERE} %(detail)s", ("count",)),
        Event.ROLE_REFUSED: Kind(logging.WARNING, f"%(detail)s {_WHERE}"),
        Event.ORIGIN_REFUSED: Kind(logging.WARNING, f"%(detail)s {_WHERE}"),
        Event.SAML_REFUSED: Kind(logging.WARNING, _SAML, _FAILURE),
        Event.SAML_LOGOUT_REFUSED: Kind(logging.WARNING, _SAML, _FAILURE),
        Event.SAML_LOGOUT: Kind(
            logging.INFO,
            "single logout of contact center %(contact_center)r at provider %(provider)r: %(outcome)s",
            ("provider",),
        ),
        Event.SAML_METADATA_FAILED: Kind(logging.WARNING, "%(detail)s", ("provider",)),
        Event.SAML_METADATA_REPLACED: Kind(
            logging.INFO,
            "metadata of provider %(provider)r (contact center %(contact_center)r): %(detail)s",
            ("provider",),
        ),
        Event.SAML_METADATA_NOT_KEPT: Kind(logging.WARNING, "%(detail)s"),
        Event.ACCOUNT_ENROLLED: Kind(
            logging.INFO, "%(detail)s %(account)r of %(provider)s in %(contact_center)s", ("provider",)
        ),
        Event.CIRCUIT_OPENED: Kind(logging.WARNING, "%(upstream)s %(part)s: %(detail)s", ("upstream", "part")),
        Event.CIRCUIT_CLOSED: Kind(logging.WARNING, "%(upstream)s %(part)s", ("upstream", "part")),
        Event.STATE_LOST: Kind(logging.WARNING, "%(detail)s; requests that need it get 503 until it answers"),
        Event.STATE_REGAINED: Kind(logging.WARNING, "%(detail)s"),
        Event.STATE_NOT_PURGED: Kind(
            logging.WARNING, "expired entries were not removed, and no request was affected: %(detail)s"
        ),
        Event.THROTTLE_LOST: Kind(logging.WARNING, "%(detail)s"),
        Event.THROTTLE_REGAINED: Kind(logging.WARNING, "%(detail)s"),
        Event.PASSWORD_HASH_UNREADABLE: Kind(logging.ERROR, "%(detail)s"),
        Event.PASSWORD_HASH_NOT_RENEWED: Kind(
            logging.WARNING, "%(detail)s (contact center %(contact_center)r, account %(account)r)"
        ),
        Event.CONFIGURATION_WARNING: Kind(logging.WARNING, "%(detail)s"),
        Event.RECEIVER_FAILED: Kind(logging.ERROR, "%(detail)s"),
    }
)


def is_logged(event: Event, level: int | None = None) -> bool:
    """Return whether a record of this event would be logged, so that callers can skip work."""
    return logger.isEnabledFor(KINDS[event].level if level is None else level)


def log_event(
    event: Event,
    *,
    level: int | None = None,
    sentence: str = "",
    failed: BaseException | None = None,
    **found: str | float | None,
) -> None:
    """Write one log record.

    :param level: replaces the event's own level.
    :param sentence: replaces the event's own message.
    :param failed: an exception whose traceback is logged.
    :param found: fields; each is escaped (see :func:`plain`) and cut. Never a secret.
    :raises TypeError: if the event has no such field.
    """
    kind = KINDS[event]
    level = kind.level if level is None else level
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, str | float | None] = {**dict.fromkeys((*FIELDS, *kind.more), ""), "elapsed": None}
    if not found.keys() <= fields.keys():
        raise TypeError(f"{event} has no {', '.join(sorted(found.keys() - fields.keys()))}")
    for name, value in found.items():
        fields[name] = plain(str(value), LONGEST.get(name, LONGEST_TEXT)) if isinstance(value, str) else value
    fields["event"] = event.value
    if sentence:
        message, args = f"{event}: %s", (plain(sentence, _LONGEST_SENTENCE),)
    else:
        message, args = f"{event}: {kind.message}", (dict(fields),)  # type: ignore[assignment]  # logging takes both
    logger.log(level, message, *args, exc_info=failed, extra={"genesys_auth": fields}, stacklevel=2)


def plain(text: str, limit: int = LONGEST_TEXT) -> str:
    """Return at most ``limit`` characters of text, safe for one line of a log or a terminal.

    Unprintable characters are escaped: control characters, line ends, terminal sequences, bidirectional controls,
    zero-width characters and lone surrogates.
    """
    cut = text[:limit]
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in cut)[:limit]


class Outage:
    """Logs once that a server stopped answering, and once that it answers again.

    It uses no lock, so that a forked child cannot inherit a held one.

    :ivar down: not empty during an outage; :meth:`answered` needs to be called only then.
    :param name: the server's name in the log.
    :param lost: the event at the start of an outage.
    :param regained: the event at its end; ``None``: not logged.
    """

    def __init__(
        self, name: str, lost: Event = Event.STATE_LOST, regained: Event | None = Event.STATE_REGAINED
    ) -> None:
        self._name = name
        self._lost, self._regained = lost, regained
        # One token moves between the two.
        self._up: deque[None] = deque([None])
        self.down: deque[None] = deque()

    def failed(self, finding: str) -> str:
        """Report that the server did not answer.

        :param finding: a sentence without secrets; it is returned.
        """
        try:
            self._up.pop()
        except IndexError:
            return finding
        log_event(self._lost, detail=finding)
        self.down.append(None)
        return finding

    def answered(self) -> None:
        """Report that the server answered."""
        try:
            self.down.pop()
        except IndexError:
            return
        if self._regained is not None:
            log_event(self._regained, detail=f"{self._name} answers again")
        self._up.append(None)
