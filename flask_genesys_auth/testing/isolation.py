"""What keeps one test from another: everything that an application's authentication remembers is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flask import Flask

from ..accounts.store import SqlAccounts
from ..web.runtime import Runtime, runtime

if TYPE_CHECKING:
    from ..accounts.models import Account

_changed: WeakKeyDictionary[Flask, dict[str, frozenset[str] | None]] = WeakKeyDictionary()
"""Of each application, the accounts that its clients have made (``None``), or given other roles (those before)."""


def note_change(app: Flask, account: Account, before: frozenset[str] | None) -> None:
    """Note what :func:`reset` has to take back: an account that was made, or its roles before.

    :param before: ``None``: the account was made.
    """
    _changed.setdefault(app, {}).setdefault(account.id, before)


def reset(app: Flask) -> None:
    """Let an application remember nothing, as if it had just been made.

    Login sessions and all else in the state, failures that were counted, credentials that were found good, servers
    that did not answer: all of it is forgotten. Accounts that :class:`~flask_genesys_auth.testing.AuthClient` has made
    are deleted again, roles it has changed are those from before; other accounts are yours.

    :raises RuntimeError: unless ``TESTING`` is set: it would log everybody out.
    """
    if not app.testing:
        raise RuntimeError("reset() is for tests: set app.testing, or TESTING in the configuration")
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
    # An application's own store, which knows nothing of tests.
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
