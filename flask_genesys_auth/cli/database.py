"""``init-db``: create the tables."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..accounts.store import SqlAccounts
from .base import require_runtime


@click.command("init-db", short_help="Create the tables.")
@with_appcontext
def init_db() -> None:
    """Create the tables of accounts and state where they are missing."""
    here = require_runtime()
    if isinstance(here.accounts, SqlAccounts):
        here.accounts.create_tables()
        click.echo(f"The account tables are ready: {here.accounts.name}")
    else:
        click.echo("The application has its own account store: no account tables are created.")
    if create_tables := getattr(here.state, "create_tables", None):
        create_tables()
    # The first use shows what is wrong with the store.
    here.state.purge()
    click.echo("The state is ready.")
    here.state.close()
