"""``sessions ...`` and ``purge``: list and revoke login sessions, remove expired entries from the state."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from ..accounts.store import SqlAccounts
from ..state.memory import MemoryState
from ..web import login
from .base import Commands, as_json, print_json, print_table, require_runtime, utc_time

if TYPE_CHECKING:
    from ..sessions import SessionInfo
    from ..web.runtime import Runtime

FEW = 100
"""Accounts up to this number are read one by one."""

sessions = Commands("sessions", help="List and revoke login sessions.")
of_account = click.option(
    "--account", metavar="NAME|ID", help="Select an account by user name, or by id in the application's own store."
)
of_contact_center = click.option("--contact-center", metavar="NAME", help="Select a contact center.")


@sessions.command("list", short_help="List the login sessions.")
@of_account
@of_contact_center
@as_json
def list_(account: str | None, contact_center: str | None, as_json: bool) -> None:
    """List the active login sessions: all, or those of an account, a contact center, or both."""
    with _shared_state() as here:
        found = _select(here, account, contact_center)
        names = _user_names(here, found)
    if as_json:
        print_json([{**asdict(one), "user_name": names.get(one.account_id, "")} for one in found])
        return
    print_table(
        ("SESSION", "CONTACT CENTER", "ACCOUNT", "BY", "CREATED", "LAST SEEN", "EXPIRES"),
        [
            (
                one.handle,
                one.contact_center,
                names.get(one.account_id, one.account_id),
                f"{one.step}/{one.provider}" if one.provider else one.step,
                *map(utc_time, (one.created, one.last_seen, one.expires)),
            )
            for one in found
        ],
    )


@sessions.command("revoke", short_help="End login sessions.")
@click.option("--session", metavar="SESSION", help="Select one session, as printed by `sessions list`.")
@of_account
@of_contact_center
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def revoke(session: str | None, account: str | None, contact_center: str | None, yes: bool) -> None:
    """End one login session, or all those of an account, a contact center, or both.

    Other processes reject them at the next request, or within session.revocation_delay. The exit status is 1 if no
    session matches.
    """
    if (session is None) is (account is None and contact_center is None):
        raise click.UsageError("give --session, or --account, --contact-center or both")
    with _shared_state() as here:
        ids = sorted(_account_ids(here, account, contact_center)) if account is not None else [None]
        count = 0
        if yes or _is_confirmed(here, ids, contact_center, session):
            # Sessions that began during the confirmation end too.
            count = sum(login.revoke_sessions(one, contact_center, session) for one in ids)
    if not count:
        raise click.ClickException("no login session matches" + _hint(here, contact_center))
    click.echo(f"Login sessions ended: {count}")


@click.command("purge", short_help="Remove expired entries.")
@as_json
@with_appcontext
def purge(as_json: bool) -> None:
    """Remove expired entries from the state. Server processes do so from time to time as well."""
    with _shared_state() as here:
        count = here.state.purge()
    if as_json:
        print_json({"removed": count})
    else:
        click.echo(f"Expired entries removed: {count}")


def _is_confirmed(here: Runtime, ids: Sequence[str | None], contact_center: str | None, session: str | None) -> bool:
    """Ask for confirmation; return false without a question if there is nothing to end.

    :raises click.ClickException: if standard input is not a terminal and holds no answer.
    :raises click.Abort: if the answer is no.
    """
    count = 1
    if session is None:
        count = sum(here.sessions.count(account_id=one, contact_center=contact_center) for one in ids)
    try:
        if not count or click.confirm(f"End {count} login session{'' if count == 1 else 's'}?"):
            return bool(count)
    except click.Abort:
        if sys.stdin is None or not sys.stdin.isatty():
            click.echo(err=True)
            raise click.ClickException("standard input is not a terminal; use --yes") from None
        raise
    raise click.Abort


@contextmanager
def _shared_state() -> Iterator[Runtime]:
    """Return the runtime and close its state afterwards.

    :raises click.ClickException: if the state is in memory, where no other process can reach it.
    """
    here = require_runtime()
    if isinstance(here.state, MemoryState):
        raise click.ClickException(
            "the state is in the memory of the server processes; set state_url to a shared store"
        )
    try:
        yield here
    finally:
        here.state.close()


def _select(here: Runtime, account: str | None, contact_center: str | None) -> Sequence[SessionInfo]:
    if account is None:
        return login.list_sessions(None, contact_center)
    ids = sorted(_account_ids(here, account, contact_center))
    return [one for account_id in ids for one in login.list_sessions(account_id, contact_center)]


def _account_ids(here: Runtime, account: str, contact_center: str | None) -> set[str]:
    """Return the ids of the accounts with this user name (in one contact center or in all) or this id."""
    if not isinstance(here.accounts, SqlAccounts):
        return {account}
    store = here.accounts
    centers = [contact_center] if contact_center is not None else [*here.contact_centers]
    named = {found.id for center in centers if (found := store.get_by_name(center, account)) is not None}
    # A deleted account can be named only by its id.
    return named or {account}


def _hint(here: Runtime, contact_center: str | None) -> str:
    """Return a note if the contact center is not configured; it may still have had sessions."""
    if contact_center is None or contact_center in here.contact_centers:
        return ""
    return f"; contact center {contact_center!r} is not configured (configured: {', '.join(here.contact_centers)})"


def _user_names(here: Runtime, found: Sequence[SessionInfo]) -> dict[str, str]:
    if not isinstance(here.accounts, SqlAccounts):
        return {}
    ids = {one.account_id for one in found}
    if len(ids) > FEW:
        # One query per contact center: one per account would take minutes.
        listed = [one for center in {one.contact_center for one in found} for one in here.accounts.list(center)]
        return {account.id: account.user_name for account in listed if account.id in ids}
    known = {account_id: here.accounts.get(account_id) for account_id in ids}
    return {account_id: account.user_name for account_id, account in known.items() if account is not None}
