"""What this package tells the log: a closed list of events, all of one shape, and nothing from outside untamed.

Every record is one of the logger ``flask_genesys_auth``. It carries ``record.genesys_auth``, a new ``dict`` with the
fields of :data:`FIELDS` and those that its event has besides (:data:`KINDS`).
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
"""What every record has; text that an event has nothing to say in is empty, ``elapsed`` is then ``None``."""

LONGEST_TEXT = 100
LONGEST: Mapping[str, int] = MappingProxyType({"account": 255, "upstream": 255, "detail": 500})
"""Characters of a field at most, where it is not :data:`LONGEST_TEXT`."""
_LONGEST_SENTENCE = 1500


class Event(str, Enum):
    """What a record is about: a closed list."""

    # a walk
    AUTHENTICATED = "authenticated"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    # login sessions
    LOGGED_IN = "logged_in"
    LOGGED_OUT = "logged_out"
    SESSION_REVOKED = "session_revoked"
    # somebody known who may not do this
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
    # what we depend on
    CIRCUIT_OPENED = "circuit_opened"
    CIRCUIT_CLOSED = "circuit_closed"
    STATE_LOST = "state_lost"
    STATE_REGAINED = "state_regained"
    STATE_NOT_PURGED = "state_not_purged"
    THROTTLE_LOST = "throttle_lost"
    THROTTLE_REGAINED = "throttle_regained"
    # what somebody has to mend
    PASSWORD_HASH_UNREADABLE = "password_hash_unreadable"  # noqa: S105 - an event, not a password
    PASSWORD_HASH_NOT_RENEWED = "password_hash_not_renewed"  # noqa: S105 - an event, not a password
    CONFIGURATION_WARNING = "configuration_warning"
    RECEIVER_FAILED = "receiver_failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Kind:
    """How an event is told.

    :param level: of :mod:`logging`, where the event itself does not say otherwise.
    :param message: with the record's fields as ``%(name)s``.
    :param more: the fields that it has besides :data:`FIELDS`.
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
        Event.LOGGED_OUT: Kind(logging.INFO, f"from a session made by %(step)s {_WHERE}"),
        Event.SESSION_REVOKED: Kind(logging.INFO, f"%(count)d ended {_WHERE} %(detail)s", ("count",)),
        Event.ROLE_REFUSED: Kind(logging.WARNING, f"%(detail)s {_WHERE}"),
        Event.ORIGIN_REFUSED: Kind(logging.WARNING, f"%(detail)s {_WHERE}"),
        Event.SAML_REFUSED: Kind(logging.WARNING, _SAML, _FAILURE),
        Event.SAML_LOGOUT_REFUSED: Kind(logging.WARNING, _SAML, _FAILURE),
        Event.SAML_LOGOUT: Kind(
            logging.INFO,
            "single logout of %(contact_center)s ended as %(outcome)s at the provider %(provider)r",
            ("provider",),
        ),
        Event.SAML_METADATA_FAILED: Kind(logging.WARNING, "%(detail)s", ("provider",)),
        Event.SAML_METADATA_REPLACED: Kind(
            logging.INFO, "those of %(provider)r (%(contact_center)s): %(detail)s", ("provider",)
        ),
        Event.SAML_METADATA_NOT_KEPT: Kind(logging.WARNING, "%(detail)s"),
        Event.ACCOUNT_ENROLLED: Kind(
            logging.INFO, "%(detail)s %(account)r of %(provider)s in %(contact_center)s", ("provider",)
        ),
        Event.CIRCUIT_OPENED: Kind(logging.WARNING, "%(upstream)s %(part)s: %(detail)s", ("upstream", "part")),
        Event.CIRCUIT_CLOSED: Kind(logging.WARNING, "%(upstream)s %(part)s", ("upstream", "part")),
        Event.STATE_LOST: Kind(logging.WARNING, "%(detail)s; until it does, what needs it is answered with 503"),
        Event.STATE_REGAINED: Kind(logging.WARNING, "%(detail)s"),
        Event.STATE_NOT_PURGED: Kind(
            logging.WARNING, "what has expired was not removed in passing, and no request has suffered: %(detail)s"
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
    """Tell whether anybody listens: what follows may cost something then."""
    return logger.isEnabledFor(KINDS[event].level if level is None else level)


def log_event(
    event: Event,
    *,
    level: int | None = None,
    sentence: str = "",
    failed: BaseException | None = None,
    **found: str | float | None,
) -> None:
    """Write one record.

    :param level: where it is not the event's own.
    :param sentence: for people, instead of the event's own message.
    :param failed: an exception whose traceback goes along.
    :param found: fields; each is made harmless (see :func:`plain`) and cut. Never a secret.
    :raises TypeError: if the event has no such field.
    """
    kind = KINDS[event]
    level = kind.level if level is None else level
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, str | float | None] = {**dict.fromkeys((*FIELDS, *kind.more), ""), "elapsed": None}
    if not found.keys() <= fields.keys():
        raise TypeError(f"{event} has no {', '.join(sorted(found.keys() - fields.keys()))}")
    fields.update((name, _tamed(name, value)) for name, value in found.items())
    fields["event"] = event.value
    if sentence:
        message, args = f"{event}: %s", (plain(sentence, _LONGEST_SENTENCE),)
    else:
        message, args = f"{event}: {kind.message}", (dict(fields),)  # type: ignore[assignment]  # logging takes both
    logger.log(level, message, *args, exc_info=failed, extra={"genesys_auth": fields}, stacklevel=2)


def plain(text: str, limit: int = LONGEST_TEXT) -> str:
    """Return text as a line of a log or a terminal may hold it, of at most so many characters.

    What does not print is shown as an escape: control characters, line ends, terminal sequences, bidirectional
    controls, zero-width characters, and halves of surrogate pairs.
    """
    cut = text[:limit]
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in cut)[:limit]


def _tamed(name: str, value: str | float | None) -> str | float | None:
    if isinstance(value, str):
        return plain(str(value), LONGEST.get(name, LONGEST_TEXT))
    return value


class Outage:
    """Tells once that a server does not answer, and once that it does again.

    Needs no lock, so that a child forked meanwhile inherits none that is taken.

    :ivar down: not empty while it does not answer: only then need :meth:`answered` be called.
    :param name: what it is called in a log.
    :param lost: the event of the one.
    :param regained: that of the other; ``None`` where nobody asks for it.
    """

    def __init__(
        self, name: str, lost: Event = Event.STATE_LOST, regained: Event | None = Event.STATE_REGAINED
    ) -> None:
        self._name = name
        self._lost, self._regained = lost, regained
        # One token, which is in one place or the other.
        self._up: deque[None] = deque([None])
        self.down: deque[None] = deque()

    def failed(self, finding: str) -> str:
        """Say that it did not answer.

        :param finding: in a sentence, without a secret; it is returned.
        """
        try:
            self._up.pop()
        except IndexError:
            return finding
        log_event(self._lost, detail=finding)
        self.down.append(None)
        return finding

    def answered(self) -> None:
        """Say that it has answered."""
        try:
            self.down.pop()
        except IndexError:
            return
        if self._regained is not None:
            log_event(self._regained, detail=f"{self._name} answers again")
        self._up.append(None)
