"""What an administrator does to the login sessions of an application: list them, and end them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RevokedInPart
from . import events
from .runtime import current_application, runtime

if TYPE_CHECKING:
    from ..sessions import SessionInfo


def sessions(
    account_id: str | None = None, contact_center: str | None = None, limit: int | None = None
) -> list[SessionInfo]:
    """See :meth:`flask_genesys_auth.GenesysAuth.sessions`."""
    here = runtime()
    if account_id is not None or contact_center is not None:
        return [*here.sessions.all_of(account_id=account_id, contact_center=contact_center, limit=limit)]
    found: list[SessionInfo] = []
    # A session of a contact center that is configured no more is nobody's.
    for center in sorted(here.contact_centers):
        left = None if limit is None else limit - len(found)
        found += here.sessions.all_of(contact_center=center, limit=left)
    return found


def revoke(account_id: str | None, contact_center: str | None, session: str | None) -> int:
    """See :meth:`flask_genesys_auth.GenesysAuth.revoke`."""
    if session is not None:
        if account_id is not None or contact_center is not None:
            raise ValueError("revoke() takes a session, or an account_id, a contact_center or both")
        return _revoke_one(session)
    if account_id is None and contact_center is None:
        raise ValueError("revoke() needs an account_id, a contact_center, both, or a session")
    try:
        count = runtime().sessions.revoke(account_id=account_id, contact_center=contact_center)
    except RevokedInPart as error:
        _tell(account_id, contact_center, error.ended)
        raise
    _tell(account_id, contact_center, count)
    return count


def _revoke_one(handle: str) -> int:
    ended = runtime().sessions.revoke_one(handle)
    if ended is None:
        return 0
    _tell(ended.account_id, ended.contact_center, 1)
    return 1


def _tell(account_id: str | None, contact_center: str | None, count: int) -> None:
    events.session_revoked(current_application(), account_id, contact_center, count, by="an administrator")
