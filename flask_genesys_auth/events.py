"""The log events of this package: a closed list, one record format, and no unescaped text from outside.

All records go to the logger ``flask_genesys_auth``. Each carries ``record.genesys_auth``: a new ``dict`` with the
fields of :data:`FIELDS` and the additional fields of its event (:class:`Event`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

logger = logging.getLogger("flask_genesys_auth")

FIELDS = ("event", "step", "outcome", "reason", "contact_center", "account", "address", "elapsed", "detail")
"""Fields of every record. Unused text fields are empty; an unused ``elapsed`` is ``None``."""

LONGEST_TEXT = 100
LONGEST: Mapping[str, int] = MappingProxyType({"account": 255, "upstream": 255, "detail": 500})
"""Maximum characters of a field, where it differs from :data:`LONGEST_TEXT`."""
_LONGEST_SENTENCE = 1500


_WHERE = "(contact center %(contact_center)r, account %(account)r, address %(address)s)"
_BY = f"by %(step)s {_WHERE}"
_STEP = f"by %(step)s: %(reason)s {_WHERE} %(detail)s"
_SAML = "%(reason)s: %(detail)s (contact center %(contact_center)r, provider %(provider)r, reference %(reference)s)"
_LOGOUT = "single logout of contact center %(contact_center)r at provider %(provider)r: %(outcome)s"
_METADATA = "metadata of provider %(provider)r (contact center %(contact_center)r): %(detail)s"
_ENROLLED = "%(detail)s %(account)r of %(provider)s in %(contact_center)s"
_NOT_PURGED = "expired entries were not removed, and no request was affected: %(detail)s"
_NOT_RENEWED = "%(detail)s (contact center %(contact_center)r, account %(account)r)"
_SESSIONS = f"login sessions ended: %(count)d {_WHERE} %(detail)s"
_STATE = "%(detail)s; requests that need it get 503 until it answers"


class Event(str, Enum):
    """The event that a record reports: a closed list, each with level, message and fields.

    The level is the default one of :mod:`logging`. The message holds the record's fields as ``%(name)s``. Fields in
    addition to :data:`FIELDS` follow it.
    """

    level: int
    message: str
    more: tuple[str, ...]

    def __new__(cls, value: str, level: int, message: str = "%(detail)s", *more: str) -> Event:
        """Make a member from its value, level, message and additional fields."""
        event = str.__new__(cls, value)
        event._value_, event.level, event.message, event.more = value, level, message, more
        return event

    # a walk
    AUTHENTICATED = "authenticated", logging.DEBUG, _BY
    REJECTED = "rejected", logging.WARNING, _STEP
    UNAVAILABLE = "unavailable", logging.WARNING, _STEP
    THROTTLED = "throttled", logging.WARNING, _STEP
    # login sessions
    LOGGED_IN = "logged_in", logging.INFO, _BY
    LOGGED_OUT = "logged_out", logging.INFO, f"from a login session of step %(step)s {_WHERE}"
    SESSION_REVOKED = "session_revoked", logging.INFO, _SESSIONS, "count"
    # refused requests of known users
    ROLE_REFUSED = "role_refused", logging.WARNING, f"%(detail)s {_WHERE}"
    ORIGIN_REFUSED = "origin_refused", logging.WARNING, f"%(detail)s {_WHERE}"
    # SAML
    SAML_REFUSED = "saml_refused", logging.WARNING, _SAML, "reference", "provider"
    SAML_LOGOUT_REFUSED = "saml_logout_refused", logging.WARNING, _SAML, "reference", "provider"
    SAML_LOGOUT = "saml_logout", logging.INFO, _LOGOUT, "provider"
    SAML_METADATA_FAILED = "saml_metadata_failed", logging.WARNING, "%(detail)s", "provider"
    SAML_METADATA_REPLACED = "saml_metadata_replaced", logging.INFO, _METADATA, "provider"
    SAML_METADATA_NOT_KEPT = "saml_metadata_not_kept", logging.WARNING
    ACCOUNT_ENROLLED = "account_enrolled", logging.INFO, _ENROLLED, "provider"
    # servers and stores
    CIRCUIT_OPENED = "circuit_opened", logging.WARNING, "%(upstream)s %(part)s: %(detail)s", "upstream", "part"
    CIRCUIT_CLOSED = "circuit_closed", logging.WARNING, "%(upstream)s %(part)s", "upstream", "part"
    STATE_LOST = "state_lost", logging.WARNING, _STATE
    STATE_REGAINED = "state_regained", logging.WARNING
    STATE_NOT_PURGED = "state_not_purged", logging.WARNING, _NOT_PURGED
    THROTTLE_LOST = "throttle_lost", logging.WARNING
    THROTTLE_REGAINED = "throttle_regained", logging.WARNING
    # faults that an operator has to correct
    PASSWORD_HASH_UNREADABLE = "password_hash_unreadable", logging.ERROR
    PASSWORD_HASH_NOT_RENEWED = "password_hash_not_renewed", logging.WARNING, _NOT_RENEWED
    CONFIGURATION_WARNING = "configuration_warning", logging.WARNING
    RECEIVER_FAILED = "receiver_failed", logging.ERROR

    def __str__(self) -> str:
        return str.__str__(self)


def is_logged(event: Event, level: int | None = None) -> bool:
    """Return whether a record of this event would be logged, so that callers can skip work."""
    return logger.isEnabledFor(event.level if level is None else level)


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
    level = event.level if level is None else level
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, str | float | None] = {**dict.fromkeys((*FIELDS, *event.more), ""), "elapsed": None}
    if not found.keys() <= fields.keys():
        raise TypeError(f"{event} has no {', '.join(sorted(found.keys() - fields.keys()))}")
    for name, value in found.items():
        fields[name] = plain(str(value), LONGEST.get(name, LONGEST_TEXT)) if isinstance(value, str) else value
    fields["event"] = event.value
    if sentence:
        message, args = f"{event}: %s", (plain(sentence, _LONGEST_SENTENCE),)
    else:
        message, args = f"{event}: {event.message}", (dict(fields),)  # type: ignore[assignment]  # logging takes both
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
