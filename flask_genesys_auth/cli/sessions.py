"""``sessions ...`` and ``purge``: the login sessions, and what has expired in the state."""

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
from .common import Commands, as_json, parts, print_json, print_table, utc_time

if TYPE_CHECKING:
    from ..sessions import SessionInfo
    from ..web.runtime import Runtime

FEW = 100
"""Accounts that are looked up one by one, at most."""

sessions = Commands("sessions", help="The login sessions.")
of_account = click.option(
    "--account", metavar="NAME|ID", help="Of this account: its user name, or its id where the application has its own."
)
of_contact_center = click.option("--contact-center", metavar="NAME", help="Of this contact center.")


@sessions.command("list", short_help="List the login sessions.")
@of_account
@of_contact_center
@as_json
def list_(account: str | None, contact_center: str | None, as_json: bool) -> None:
    """List the living login sessions: all, or those of an account, of a contact center, or of both."""
    with _shared_state() as here:
        found = _found(here, account, contact_center)
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
@click.option("--session", metavar="SESSION", help="This one, as `sessions list` names it.")
@of_account
@of_contact_center
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(session: str | None, account: str | None, contact_center: str | None, yes: bool) -> None:
    """End one login session, or those of an account, of a contact center, or of an account there.

    They are refused at the next request, or within session.revocation_delay. The exit status is 1 where there is none.
    """
    if (session is None) is (account is None and contact_center is None):
        raise click.UsageError("name what ends: --session, or --account and --contact-center, or one of these two")
    with _shared_state() as here:
        ids = sorted(_account_ids(here, account, contact_center)) if account is not None else [None]
        if not yes:
            counts = (here.sessions.count(account_id=one, contact_center=contact_center) for one in ids)
            _confirm(1 if session is not None else sum(counts))
        # What began while the operator thought about it ends, too.
        count = sum(login.revoke_sessions(one, contact_center, session) for one in ids)
    if not count:
        raise click.ClickException("there is no such login session" + _hint(here, contact_center))
    click.echo(f"Login sessions ended: {count}")


@click.command("purge", short_help="Remove what has expired.")
@as_json
@with_appcontext
def purge(as_json: bool) -> None:
    """Remove what has expired from the state; processes that serve do so in passing, too."""
    with _shared_state() as here:
        count = here.state.purge()
    if as_json:
        print_json({"removed": count})
    else:
        click.echo(f"Expired entries removed: {count}")


def _confirm(count: int) -> None:
    """Ask; whoever says no, or is not there, ends the command.

    :raises click.ClickException: if nobody is there.
    :raises click.Abort: if the answer is no.
    """
    try:
        if not count or click.confirm(f"End {count} login session{'' if count == 1 else 's'}?"):
            return
    except click.Abort:
        if sys.stdin is None or not sys.stdin.isatty():
            click.echo(err=True)
            raise click.ClickException("there is no terminal to ask at: use --yes") from None
        raise
    raise click.Abort


@contextmanager
def _shared_state() -> Iterator[Runtime]:
    """Lend the application's parts if what they keep is not in the memory of this very process.

    :raises click.ClickException: if it is.
    """
    here = parts()
    if isinstance(here.state, MemoryState):
        raise click.ClickException("the state is in the memory of the processes that serve: no command reaches it")
    try:
        yield here
    finally:
        here.state.close()


def _found(here: Runtime, account: str | None, contact_center: str | None) -> Sequence[SessionInfo]:
    if account is None:
        return login.list_sessions(None, contact_center)
    ids = sorted(_account_ids(here, account, contact_center))
    return [one for account_id in ids for one in login.list_sessions(account_id, contact_center)]


def _account_ids(here: Runtime, account: str, contact_center: str | None) -> set[str]:
    """Return the accounts that an operator names: by user name in one contact center or in all, or by id."""
    if not isinstance(here.accounts, SqlAccounts):
        return {account}
    store = here.accounts
    centers = [contact_center] if contact_center is not None else [*here.contact_centers]
    named = {found.id for center in centers if (found := store.get_by_name(center, account)) is not None}
    # The id counts too: of an account that is deleted, nothing else is left.
    return named or {account}


def _hint(here: Runtime, contact_center: str | None) -> str:
    """Return what to say where nothing was ended: any name may be given, for sessions outlive a table."""
    if contact_center is None or contact_center in here.contact_centers:
        return ""
    return f", and no contact center {contact_center!r} is configured: there is {', '.join(here.contact_centers)}"


def _user_names(here: Runtime, found: Sequence[SessionInfo]) -> dict[str, str]:
    if not isinstance(here.accounts, SqlAccounts):
        return {}
    ids = {one.account_id for one in found}
    if len(ids) > FEW:
        # One look at all: as many round trips as there are people would take minutes.
        listed = [one for center in {one.contact_center for one in found} for one in here.accounts.list(center)]
        return {account.id: account.user_name for account in listed if account.id in ids}
    known = {account_id: here.accounts.get(account_id) for account_id in ids}
    return {account_id: account.user_name for account_id, account in known.items() if account is not None}
