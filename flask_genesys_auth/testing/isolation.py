"""Reset the authentication state of an application between tests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flask import Flask

from ..accounts.store import SqlAccounts
from ..web.runtime import Runtime, runtime

if TYPE_CHECKING:
    from ..accounts.models import Account

_changed: WeakKeyDictionary[Flask, dict[str, frozenset[str] | None]] = WeakKeyDictionary()
"""By application: accounts that its clients created (``None``), or the former roles of accounts they changed."""


def note_change(app: Flask, account: Account, before: frozenset[str] | None) -> None:
    """Record a change that :func:`reset` undoes.

    :param before: the account's former roles; ``None``: the account was created.
    """
    _changed.setdefault(app, {}).setdefault(account.id, before)


def reset(app: Flask) -> None:
    """Clear the authentication state of an application.

    Deletes login sessions and everything else in the state, the counters of the throttle, verified credentials, and
    the health of servers. Accounts that :class:`~flask_genesys_auth.testing.AuthClient` created are deleted, roles
    that it changed are restored; other accounts are not touched.

    :raises RuntimeError: unless ``TESTING`` is set, because it logs out every user.
    """
    if not app.testing:
        raise RuntimeError("reset() is for tests only: set TESTING in the configuration")
    here = runtime(app)
    for memory in here.memories:
        memory.clear()
    _clear_state(here)
    _take_back_changes(app, here)


def _clear_state(here: Runtime) -> None:
    clear = getattr(here.state, "clear", None)
    if callable(clear):
        clear()
        return
    # An application's own store has no clear().
    for center in here.contact_centers.values():
        here.sessions.revoke(contact_center=center.name)


def _take_back_changes(app: Flask, here: Runtime) -> None:
    changed = _changed.pop(app, {})
    if not isinstance(here.accounts, SqlAccounts):
        return
    for account_id, roles in changed.items():
        if here.accounts.get(account_id) is None:
            continue
        if roles is None:
            here.accounts.delete(account_id)
        else:
            here.accounts.set_roles(account_id, roles)
