"""Login sessions: what the browser's cookie names, kept in the state, so that ending one counts on every node."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, cast

from .chain.outcomes import LoginSession, Reason, Rejected
from .errors import RevokedInPart, StateUnavailable
from .limits.cache import Cache

if TYPE_CHECKING:
    from .chain.protocols import Json, StateStore
    from .config.settings import SessionSettings

KEY = "session:"
ID_BYTES = 32
LONGEST_TOUCH_INTERVAL = 60.0
END_OF_TIME = 1e12
"""A unix time beyond which a stored number is none: what is no number at all (NaN) is not below it either."""
_HANDLE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS = {field.name for field in fields(LoginSession)}
_NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A login session as an administrator sees it.

    :param handle: names it to :meth:`~flask_genesys_auth.GenesysAuth.revoke`; 64 hexadecimal digits, which nobody can
        log in with: the browser has what they are a hash of.
    :param step: the step that made it, as of ``Decision.authenticated_by``; ``application`` for a login of its own.
    :param provider: the SAML identity provider that vouched for it, or empty.
    :param created: unix time, as are ``last_seen`` (noted once in a while) and ``expires`` (its end, used or not).
    """

    handle: str
    account_id: str
    contact_center: str
    step: str
    provider: str
    created: float
    last_seen: float
    expires: float


class LoginSessions:
    """Begins, resumes and ends login sessions; implements :class:`~flask_genesys_auth.chain.walk.Sessions`.

    A session ends ``absolute_timeout`` after it began, where its provider said so (saml-core 2.7.2,
    SessionNotOnOrAfter), or when it was not used for ``idle_timeout``. That it was used is written down at most once
    per min(60, ``idle_timeout`` / 10) seconds, so an idle one may live that much longer, never shorter. The store
    knows a hash of the opaque id, never the id; nor does this process's memory.

    With a ``revocation_delay`` a session that was read at most so long ago is resumed without asking the store, until
    one of its own ends. What ends here is forgotten here at once.

    :param state: where they are kept; its ``StateUnavailable`` passes through every method.
    :param settings: the time-outs, and the delay.
    :param clock: unix time.
    :param recent: what was read a short time ago; default: for the delay.
    :param touch_interval: seconds between two notes that a session was used; default: as above.
    """

    def __init__(
        self,
        state: StateStore,
        settings: SessionSettings,
        clock: Callable[[], float] = time.time,
        *,
        recent: Cache[str, LoginSession] | None = None,
        touch_interval: float | None = None,
    ) -> None:
        self._state = state
        self._recent: Cache[str, LoginSession] = Cache(settings.revocation_delay) if recent is None else recent
        self._absolute = settings.absolute_timeout
        if touch_interval is None:
            touch_interval = min(LONGEST_TOUCH_INTERVAL, settings.idle_timeout / 10)
        self._touch_interval = touch_interval
        self._idle = settings.idle_timeout + self._touch_interval
        self._clock = clock

    def start(
        self,
        *,
        contact_center: str,
        account_id: str,
        step: str,
        provider: str = "",
        name_id: str = "",
        session_index: str = "",
        not_on_or_after: float | None = None,
    ) -> str:
        """Begin a session and return its opaque id: 256 random bits, in 43 characters that a cookie may carry.

        :param step: who proved the account.
        :param not_on_or_after: unix time at which the provider's own session ends. A session whose end has passed
            is not kept: its id resumes to nothing.
        """
        now = self._clock()
        expires = min(now + self._absolute, math.inf if not_on_or_after is None else not_on_or_after)
        session = LoginSession(
            contact_center=contact_center,
            account_id=account_id,
            step=step,
            created=now,
            last_seen=now,
            expires=expires,
            provider=provider,
            name_id=name_id,
            session_index=session_index,
        )
        session_id = secrets.token_urlsafe(ID_BYTES)
        if expires > now:
            self._state.put(storage_key(session_id), asdict(session), self._ttl(session), index=index_terms(session))
        return session_id

    def resume(self, session_id: str, *, touch: bool = True) -> LoginSession | Rejected:
        """Return the living session, or that it has ended.

        :param touch: note that it was seen now (idle time-out); without, the store is always asked.
        """
        key = storage_key(session_id)
        session = self._recent.get(key) if touch else None
        if session is not None and self._lives(session) and not self._touch_is_due(session):
            return session
        reading = self._recent.begin()
        session = self._living(self._state.get(key))
        if session is None:
            self._recent.discard(key)
            return Rejected(Reason.SESSION_ENDED)
        if touch and self._touch_is_due(session):
            return self._touch(key, session)
        self._recent.put(key, session, reading)
        return session

    def clear(self) -> None:
        """Forget what was read a short time ago."""
        self._recent.clear()

    def end(self, session_id: str) -> LoginSession | None:
        """End a session and return what it was, or ``None`` if it had ended before; of many callers one ends it."""
        return self._take(storage_key(session_id))

    def all_of(
        self, *, account_id: str | None = None, contact_center: str | None = None, limit: int | None = None
    ) -> Sequence[SessionInfo]:
        """Return the living sessions of an account, of a contact center, or of an account there, by account and age.

        :param limit: how many of the first are returned, and kept in memory, at most.
        :raises ValueError: if neither is given.
        """
        found = self._each(_named(account_id, contact_center))
        # A store may show one twice: then side by side.
        first = sorted(found, key=_place) if limit is None else nsmallest(2 * limit, found, key=_place)
        return list({one.handle: one for one in first}.values())[:limit]

    def count(self, *, account_id: str | None = None, contact_center: str | None = None) -> int:
        """Return how many sessions of an account, of a contact center, or of an account there :meth:`revoke` finds.

        :raises ValueError: if neither is given.
        """
        return len({key for keys in self._state.find_each(_named(account_id, contact_center)) for key in keys})

    def revoke_one(self, handle: str) -> LoginSession | None:
        """End the session of this handle and return what it was, or ``None`` if there is none."""
        return self._take(KEY + handle) if _HANDLE.fullmatch(handle) else None

    def revoke(self, *, account_id: str | None = None, contact_center: str | None = None) -> int:
        """End all sessions of an account, of a contact center, or of an account in a contact center.

        They end batch by batch, each of which has the state's whole time-out, until none is found. So whatever had
        begun before has ended, and what begins meanwhile may live.

        :returns: how many there were.
        :raises ValueError: if neither is given.
        :raises RevokedInPart: if the state stopped answering when some had ended; the same call ends the rest.
        """
        term, count = _named(account_id, contact_center), 0
        try:
            while ended := self._state.delete_found(term):
                count += ended
        except StateUnavailable as error:
            if not count:
                raise
            raise RevokedInPart(error, count) from error
        finally:
            self._recent.clear()
        return count

    def end_saml(
        self, contact_center: str, provider: str, name_id: str, session_indexes: Iterable[str] = ()
    ) -> list[LoginSession]:
        """End the sessions that a provider has vouched for by this NameID (saml-core 3.7.3.2); return what they were.

        :param name_id: as the sessions were started with.
        :param session_indexes: those that end; none: all of this NameID.
        """
        named = (contact_center, provider, name_id)
        terms = [index_term("saml", *named, index) for index in session_indexes] or [index_term("saml", *named)]
        try:
            keys = dict.fromkeys(key for term in terms for key in self._state.find(term))
            ended = [self._living(self._state.take(key)) for key in keys]
        finally:
            self._recent.clear()
        return [session for session in ended if session is not None]

    def _take(self, key: str) -> LoginSession | None:
        try:
            return self._living(self._state.take(key))
        finally:
            # Afterwards, so that nobody reads it between the two; also where nobody knows whether it has ended.
            self._recent.invalidate(key)

    def _each(self, term: str) -> Iterator[SessionInfo]:
        for keys in self._state.find_each(term):
            for key, session in zip(keys, map(self._living, self._state.get_many(keys)), strict=True):
                if session is not None:
                    yield _info(key, session)

    def _touch_is_due(self, session: LoginSession) -> bool:
        return self._clock() - session.last_seen >= self._touch_interval

    def _touch(self, key: str, session: LoginSession) -> LoginSession | Rejected:
        seen = replace(session, last_seen=self._clock())
        reading = self._recent.begin()
        # It could be read: a state that cannot be written just now ends nobody's session.
        with suppress(StateUnavailable):
            if not self._state.replace(key, asdict(seen), self._ttl(seen)):
                self._recent.discard(key)
                return Rejected(Reason.SESSION_ENDED)
            self._recent.put(key, seen, reading)
        return seen

    def _ttl(self, session: LoginSession) -> float:
        return min(self._idle, session.expires - session.last_seen)

    def _living(self, value: Json) -> LoginSession | None:
        """Return the session that a stored value is, if it is one and neither of its ends has passed."""
        session = _read(value)
        return session if session is not None and self._lives(session) else None

    def _lives(self, session: LoginSession) -> bool:
        # The store's own clock decides first; this one counts where the time-outs have been shortened since.
        return self._clock() < min(session.expires, session.last_seen + self._idle, session.created + self._absolute)


def _read(value: Json) -> LoginSession | None:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        return None
    read = LoginSession(**cast("Any", value))
    texts = (read.contact_center, read.account_id, read.step, read.provider, read.name_id, read.session_index)
    if {*map(type, texts)} != {str} or not all(map(_is_time, (read.created, read.last_seen, read.expires))):
        return None
    return read


def _is_time(found: object) -> bool:
    # By its very type: true and false are numbers, too.
    return type(found) in _NUMBERS and 0 <= cast("float", found) < END_OF_TIME


def storage_key(session_id: str) -> str:
    """Return the key under which the state keeps the session of this opaque id."""
    return KEY + _hash(session_id)


def _place(one: SessionInfo) -> tuple[str, str, float, str]:
    return one.contact_center, one.account_id, one.created, one.handle


def _info(key: str, session: LoginSession) -> SessionInfo:
    shared = {name: getattr(session, name) for name in SessionInfo.__slots__ if name != "handle"}
    return SessionInfo(handle=key.removeprefix(KEY), **shared)


def _named(account_id: str | None, contact_center: str | None) -> str:
    """Return the index term of all sessions of an account, of a contact center, or of an account there.

    :raises ValueError: if neither is given.
    """
    if account_id is not None:
        return index_term("account", account_id, *([] if contact_center is None else [contact_center]))
    if contact_center is None:
        raise ValueError("name an account_id, a contact_center, or both")
    return index_term("contact-center", contact_center)


def index_terms(session: LoginSession) -> list[str]:
    """Return the index terms of a session: for revocation, and for a provider's LogoutRequest (saml-core 3.7.1)."""
    center, account = session.contact_center, session.account_id
    terms = [
        index_term("contact-center", center),
        index_term("account", account),
        index_term("account", account, center),
    ]
    if session.name_id:
        named = (center, session.provider, session.name_id)
        terms += [index_term("saml", *named), index_term("saml", *named, session.session_index)]
    return terms


def index_term(kind: str, *parts: str) -> str:
    """Return the index term of the sessions that have these values in common.

    :param kind: ``account``, ``contact-center`` or ``saml``.
    """
    # Lengths before the parts: no part can run into the next. Hashed: a NameID may be longer than a term.
    return f"{kind}:" + _hash("".join(f"{len(part)}:{part}" for part in parts))


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
