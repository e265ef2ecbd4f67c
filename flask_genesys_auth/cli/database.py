"""``init-db``: makes the tables."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..accounts.store import SqlAccounts
from ..state.tables import KeepsTables
from .common import parts


@click.command("init-db", short_help="Make the tables.")
@with_appcontext
def init_db() -> None:
    """Make the tables of accounts and state where they are missing."""
    here = parts()
    if isinstance(here.accounts, SqlAccounts):
        here.accounts.create_tables()
        click.echo(f"The account tables are ready: {here.accounts.name}")
    else:
        click.echo("The application has its own account store: no account tables are made.")
    if isinstance(here.state, KeepsTables):
        here.state.create_tables()
    # Used here, what is wrong with it shows now.
    here.state.purge()
    click.echo("The state is ready.")
    here.state.close()
