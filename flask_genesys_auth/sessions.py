"""Login sessions: kept in the state under the id in the browser's cookie, and revocable on every node."""

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
"""Stored times must be below this unix time. The comparison also rejects NaN."""
_HANDLE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS = {field.name for field in fields(LoginSession)}
_NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A login session as an administrator sees it.

    :param handle: identifies it for :meth:`~flask_genesys_auth.GenesysAuth.revoke`: 64 hexadecimal digits, a hash of
        the id in the browser. The handle cannot be used to log in.
    :param step: the step of the login, as in ``Decision.authenticated_by``; ``application`` for ``login_user``.
    :param provider: the SAML identity provider that authenticated the user, or empty.
    :param created: unix time, as are ``last_seen`` (written at intervals) and ``expires`` (the absolute timeout).
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

    A session ends ``absolute_timeout`` after its start, at the provider's SessionNotOnOrAfter (saml-core 2.7.2), or
    after ``idle_timeout`` without use. Its last use is written at most once per min(60, ``idle_timeout`` / 10) seconds:
    an idle session may live that much longer, never shorter. The store and this process's memory hold a hash of the
    opaque id, never the id.

    With a ``revocation_delay``, a session is resumed without reading the store if it was read within that delay and
    has not timed out. A session that ends in this process leaves its cache at once.

    :param state: the store; its ``StateUnavailable`` passes through every method.
    :param settings: the timeouts and the revocation delay.
    :param clock: unix time.
    :param recent: the cache of sessions; default: for the revocation delay.
    :param touch_interval: seconds between two writes of the last use; default: as above.
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
        """Begin a session and return its opaque id: 256 random bits in 43 characters that are valid in a cookie.

        :param step: the step that authenticated the user.
        :param not_on_or_after: unix time at which the provider's session ends. A session that has already ended is
            not stored, and its id cannot be resumed.
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
        """Return the active session, or a rejection if it has ended.

        :param touch: write its last use (idle timeout); if false, always read the store.
        """
        key = storage_key(session_id)
        session = self._recent.get(key) if touch else None
        if session is not None and self._is_active(session) and not self._touch_is_due(session):
            return session
        reading = self._recent.begin()
        session = self._valid(self._state.get(key))
        if session is None:
            self._recent.discard(key)
            return Rejected(Reason.SESSION_ENDED)
        if touch and self._touch_is_due(session):
            return self._touch(key, session)
        self._recent.put(key, session, reading)
        return session

    def clear(self) -> None:
        """Clear the cache."""
        self._recent.clear()

    def end(self, session_id: str) -> LoginSession | None:
        """End a session and return it, or ``None`` if it had ended; one of several concurrent callers gets it."""
        return self._take(storage_key(session_id))

    def all_of(
        self, *, account_id: str | None = None, contact_center: str | None = None, limit: int | None = None
    ) -> Sequence[SessionInfo]:
        """Return the active sessions of an account, a contact center, or both, sorted by account and age.

        :param limit: the maximum number that is returned and held in memory.
        :raises ValueError: if neither is given.
        """
        found = self._list(_term(account_id, contact_center))
        # A store may return a session twice; sorting puts both side by side.
        first = sorted(found, key=_order) if limit is None else nsmallest(2 * limit, found, key=_order)
        return list({one.handle: one for one in first}.values())[:limit]

    def count(self, *, account_id: str | None = None, contact_center: str | None = None) -> int:
        """Return how many sessions of an account, a contact center, or both :meth:`revoke` would end.

        :raises ValueError: if neither is given.
        """
        return len({key for keys in self._state.find_each(_term(account_id, contact_center)) for key in keys})

    def revoke_one(self, handle: str) -> LoginSession | None:
        """End the session with this handle and return it, or ``None`` if there is none."""
        return self._take(KEY + handle) if _HANDLE.fullmatch(handle) else None

    def revoke(self, *, account_id: str | None = None, contact_center: str | None = None) -> int:
        """End all sessions of an account, a contact center, or both.

        They end in batches, each within the state's timeout, until none is left. All sessions that began before the
        call have ended; sessions that begin during the call may survive.

        :returns: how many were ended.
        :raises ValueError: if neither is given.
        :raises RevokedInPart: if the state stopped answering after some had ended; repeat the call to end the rest.
        """
        term, count = _term(account_id, contact_center), 0
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
        """End and return the sessions that a provider began for this NameID (saml-core 3.7.3.2).

        :param name_id: as passed to :meth:`start`.
        :param session_indexes: the sessions to end; empty: all of this NameID.
        """
        named = (contact_center, provider, name_id)
        terms = [index_term("saml", *named, index) for index in session_indexes] or [index_term("saml", *named)]
        try:
            keys = dict.fromkeys(key for term in terms for key in self._state.find(term))
            ended = [self._valid(self._state.take(key)) for key in keys]
        finally:
            self._recent.clear()
        return [session for session in ended if session is not None]

    def _take(self, key: str) -> LoginSession | None:
        try:
            return self._valid(self._state.take(key))
        finally:
            # Only afterwards, so that no thread caches it again in between; also if the outcome is unknown.
            self._recent.invalidate(key)

    def _list(self, term: str) -> Iterator[SessionInfo]:
        for keys in self._state.find_each(term):
            for key, session in zip(keys, map(self._valid, self._state.get_many(keys)), strict=True):
                if session is not None:
                    yield _info(key, session)

    def _touch_is_due(self, session: LoginSession) -> bool:
        return self._clock() - session.last_seen >= self._touch_interval

    def _touch(self, key: str, session: LoginSession) -> LoginSession | Rejected:
        seen = replace(session, last_seen=self._clock())
        reading = self._recent.begin()
        # The session was readable: a state that cannot be written at the moment does not end it.
        with suppress(StateUnavailable):
            if not self._state.replace(key, asdict(seen), self._ttl(seen)):
                self._recent.discard(key)
                return Rejected(Reason.SESSION_ENDED)
            self._recent.put(key, seen, reading)
        return seen

    def _ttl(self, session: LoginSession) -> float:
        return min(self._idle, session.expires - session.last_seen)

    def _valid(self, value: Json) -> LoginSession | None:
        """Return the session in a stored value, if it is well-formed and has not ended."""
        session = _read(value)
        return session if session is not None and self._is_active(session) else None

    def _is_active(self, session: LoginSession) -> bool:
        # The store expires entries itself; this check applies timeouts that were shortened since.
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
    # The exact type, because bool is a subclass of int.
    return type(found) in _NUMBERS and 0 <= cast("float", found) < END_OF_TIME


def storage_key(session_id: str) -> str:
    """Return the state's key for the session with this opaque id."""
    return KEY + _hash(session_id)


def _order(one: SessionInfo) -> tuple[str, str, float, str]:
    return one.contact_center, one.account_id, one.created, one.handle


def _info(key: str, session: LoginSession) -> SessionInfo:
    shared = {name: getattr(session, name) for name in SessionInfo.__slots__ if name != "handle"}
    return SessionInfo(handle=key.removeprefix(KEY), **shared)


def _term(account_id: str | None, contact_center: str | None) -> str:
    """Return the index term of all sessions of an account, a contact center, or both.

    :raises ValueError: if neither is given.
    """
    if account_id is not None:
        return index_term("account", account_id, *([] if contact_center is None else [contact_center]))
    if contact_center is None:
        raise ValueError("give an account_id, a contact_center, or both")
    return index_term("contact-center", contact_center)


def index_terms(session: LoginSession) -> list[str]:
    """Return the index terms of a session, for revocation and for LogoutRequests of providers (saml-core 3.7.1)."""
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
    """Return the index term of the sessions that share these values.

    :param kind: ``account``, ``contact-center`` or ``saml``.
    """
    # Length prefixes keep the parts apart. The hash bounds the length: a NameID may be longer than a term.
    return f"{kind}:" + _hash("".join(f"{len(part)}:{part}" for part in parts))


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
