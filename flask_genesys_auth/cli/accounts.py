"""``accounts ...``: manage the accounts of the built-in store."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from getpass import GetPassWarning
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..accounts.importing import ImportRefused, check_file, import_file
from ..accounts.models import Account, password_problem
from ..accounts.store import SqlAccounts
from ..errors import StateUnavailable
from ..state.memory import MemoryState
from ..web import events
from ..web.runtime import Runtime, current_application
from .base import Commands, as_json, builtin_accounts, print_json, print_table, require_runtime

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

NO_PROVIDERS = frozenset({"web_services", "login_session", "saml"})

accounts = Commands("accounts", help="Manage the accounts of the built-in store.")


def account_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the two arguments that name an account."""
    return click.argument("contact_center")(click.argument("user_name")(command))


password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)


@accounts.command("add", short_help="Create an account.")
@account_arguments
@click.option("--first-name", default="")
@click.option("--last-name", default="")
@click.option("--role", "roles", multiple=True, help="A role such as ROLE_AGENT; repeatable.")
@click.option("--identity", "identities", multiple=True, metavar="PROVIDER=VALUE", help="A value to link; repeatable.")
@password_stdin
def add(
    contact_center: str,
    user_name: str,
    first_name: str,
    last_name: str,
    roles: tuple[str, ...],
    identities: tuple[str, ...],
    password_stdin: bool,
) -> None:
    """Create an account. Without --password-stdin it has no password."""
    here, store = require_runtime(), builtin_accounts()
    _check_contact_center(here, contact_center)
    linked = [_identity(here, contact_center, text) for text in identities]
    made = store.add(
        contact_center,
        user_name,
        first_name=first_name,
        last_name=last_name,
        roles=roles,
        password_hash=here.hasher.hash(_read_password()) if password_stdin else None,
        identities=linked,
    )
    click.echo(f"Added {made.user_name} to {contact_center}" + ("." if password_stdin else ", without a password."))


@accounts.command("list", short_help="List the accounts.")
@click.argument("contact_center", required=False)
@as_json
def list_(contact_center: str | None, as_json: bool) -> None:
    """List the accounts of one contact center, or of all."""
    store = builtin_accounts()
    if contact_center is not None:
        _check_contact_center(require_runtime(), contact_center)
    found = store.list(contact_center)
    if as_json:
        print_json([_plain(account) for account in found])
        return
    print_table(
        ("CONTACT CENTER", "USER NAME", "NAME", "ROLES", "ENABLED"),
        [
            (
                account.contact_center,
                account.user_name,
                f"{account.first_name} {account.last_name}".strip(),
                ", ".join(sorted(account.roles)),
                "yes" if account.enabled else "no",
            )
            for account in found
        ],
    )


@accounts.command("show")
@account_arguments
@as_json
def show(contact_center: str, user_name: str, as_json: bool) -> None:
    """Show one account."""
    _, store, account = _find(contact_center, user_name)
    details = store.details(account.id)
    identities: dict[str, list[str]] = {}
    for provider, value in details.identities:
        identities.setdefault(provider, []).append(value)
    plain = {**_plain(account), "has_password": details.has_password, "identities": identities}
    if as_json:
        print_json(plain)
        return
    linked = ", ".join(f"{provider}={value}" for provider, value in details.identities)
    shown = {**plain, "roles": ", ".join(plain["roles"]), "identities": linked}
    print_table(
        ("FIELD", "VALUE"),
        [(name, {True: "yes", False: "no"}.get(value, str(value))) for name, value in shown.items()],
    )


@accounts.command("set-password", short_help="Set a password and end the sessions.")
@account_arguments
@password_stdin
def set_password(contact_center: str, user_name: str, password_stdin: bool) -> None:
    """Set an account's password and end its login sessions."""
    here, store, account = _find(contact_center, user_name)
    password = _read_password() if password_stdin else _ask_password()
    store.set_password(account.id, here.hasher.hash(password))
    click.echo(f"{account.user_name} has a new password{_end_sessions(here, account)}.")


@accounts.command("disable", short_help="Disable an account and end its sessions.")
@account_arguments
def disable(contact_center: str, user_name: str) -> None:
    """Disable an account and end its login sessions."""
    here, store, account = _find(contact_center, user_name)
    store.set_enabled(account.id, False)
    click.echo(f"{account.user_name} is disabled{_end_sessions(here, account)}.")


@accounts.command("enable")
@account_arguments
def enable(contact_center: str, user_name: str) -> None:
    """Enable a disabled account."""
    _, store, account = _find(contact_center, user_name)
    store.set_enabled(account.id, True)
    click.echo(f"{account.user_name} is enabled.")


@accounts.command("roles", short_help="Show or set an account's roles.")
@account_arguments
@click.argument("roles", nargs=-1, metavar="[ROLE]...")
@click.option("--none", "no_roles", is_flag=True, help="Remove all roles.")
@as_json
def roles_(contact_center: str, user_name: str, roles: tuple[str, ...], no_roles: bool, as_json: bool) -> None:
    """Replace an account's roles with ROLE...; without ROLE, show them."""
    if roles and no_roles:
        raise click.UsageError("give either ROLE... or --none")
    _, store, account = _find(contact_center, user_name)
    if roles or no_roles:
        store.set_roles(account.id, roles)
        account = store.details(account.id).account
    if as_json:
        print_json(sorted(account.roles))
    else:
        click.echo(f"{account.user_name}: {', '.join(sorted(account.roles)) or 'no roles'}")


@accounts.command("link", short_help="Link an account to providers' values.")
@account_arguments
@click.argument("identities", nargs=-1, required=True, metavar="PROVIDER=VALUE...")
def link(contact_center: str, user_name: str, identities: tuple[str, ...]) -> None:
    """Link an account to the values by which Salesforce, Configuration Server or SAML providers identify the user."""
    here, store, account = _find(contact_center, user_name)
    for provider, value in [_identity(here, contact_center, text) for text in identities]:
        store.link(account.id, provider, value)
        click.echo(f"{account.user_name} is linked to {provider}={value}.")


@accounts.command("unlink", short_help="Remove linked values.")
@account_arguments
@click.argument("identities", nargs=-1, required=True, metavar="PROVIDER=VALUE...")
def unlink(contact_center: str, user_name: str, identities: tuple[str, ...]) -> None:
    """Remove linked values from an account."""
    _, store, account = _find(contact_center, user_name)
    for provider, value in [_pair(text) for text in identities]:
        if not store.unlink(account.id, provider, value):
            raise click.ClickException(f"{account.user_name} is not linked to {provider}={value}")
        click.echo(f"{account.user_name} is no longer linked to {provider}={value}.")


@accounts.command("delete", short_help="Delete an account and end its sessions.")
@account_arguments
def delete(contact_center: str, user_name: str) -> None:
    """Delete an account with its linked values and end its login sessions."""
    here, store, account = _find(contact_center, user_name)
    store.delete(account.id)
    click.echo(f"{account.user_name} is deleted{_end_sessions(here, account)}.")


@accounts.command("import", short_help="Import accounts from a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check all rows, write nothing.")
@as_json
@click.pass_context
def import_(context: click.Context, file: Path, dry_run: bool, as_json: bool) -> None:
    """Import accounts from a .json or .csv FILE: all of them, or none.

    If a row is invalid, each problem is printed with its line and field, and the exit status is 1.
    """
    here, store = require_runtime(), builtin_accounts()
    try:
        if dry_run:
            count = len(check_file(file, store, here.contact_centers))
        else:
            with _progress() as progress:
                count = import_file(file, store, here.contact_centers, here.hasher.hash, progress=progress)
    except ImportRefused as refused:
        if not as_json:
            raise
        print_json({"added": 0, "dry_run": dry_run, "problems": [asdict(problem) for problem in refused.problems]})
        context.exit(1)
    if as_json:
        print_json({"added": 0 if dry_run else count, "checked": count, "dry_run": dry_run, "problems": []})
    else:
        accounts_ = f"{count} account{'' if count == 1 else 's'}"
        click.echo(f"{accounts_} can be added; nothing was written." if dry_run else f"Added {accounts_}.")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], object]]:
    """Show a progress bar on standard error if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    bar: ProgressBar[int] | None = None

    def show(place: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = click.progressbar(length=total, label="Hashing passwords", file=sys.stderr)
        bar.update(place - bar.pos)

    try:
        yield show
    finally:
        if bar is not None:
            bar.render_finish()


def _find(contact_center: str, user_name: str) -> tuple[Runtime, SqlAccounts, Account]:
    """Return the runtime, the account store and the account that a command names."""
    here, store = require_runtime(), builtin_accounts()
    found = store.get_by_name(contact_center, user_name)
    if found is None:
        # Checked last: accounts of a contact center that left the configuration can still be deleted.
        _check_contact_center(here, contact_center)
        raise click.ClickException(f"contact center {contact_center!r} has no account {user_name!r}")
    return here, store, found


def _check_contact_center(here: Runtime, name: str) -> None:
    if name not in here.contact_centers:
        raise click.ClickException(
            f"unknown contact center {name!r}; configured: {', '.join(sorted(here.contact_centers))}"
        )


def _pair(text: str) -> tuple[str, str]:
    provider, separator, value = text.partition("=")
    if not (provider and separator and value):
        raise click.UsageError(f"{text!r} does not have the form PROVIDER=VALUE")
    return provider, value


def _identity(here: Runtime, contact_center: str, text: str) -> tuple[str, str]:
    provider, value = _pair(text)
    center = here.contact_centers.get(contact_center)
    known: set[str] = set()
    if center is not None:
        saml = center.settings.saml
        known = {step.name for step in center.steps} - NO_PROVIDERS | set(saml.identity_providers if saml else ())
    if provider not in known:
        raise click.ClickException(
            f"contact center {contact_center!r} has no provider {provider!r}; known: {', '.join(sorted(known))}"
        )
    return provider, value


def _read_password() -> str:
    if sys.stdin is None:
        raise click.ClickException("cannot read the password: standard input is closed")
    try:
        # In the C locale, bytes that are not UTF-8 are read as surrogates.
        line = sys.stdin.readline()
        line.encode()
    except UnicodeError:
        raise click.ClickException("cannot read the password: it is not in the encoding of this locale") from None
    return _checked(line.rstrip("\r\n"))


def _ask_password() -> str:
    try:
        with warnings.catch_warnings():
            # Where a terminal cannot hide the password, getpass only warns and reads it visibly.
            warnings.simplefilter("error", GetPassWarning)
            return _checked(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    except GetPassWarning:
        raise click.ClickException("standard input is not a terminal; use --password-stdin") from None


def _checked(password: str) -> str:
    problem = password_problem(password)
    if problem:
        raise click.ClickException(f"the password {problem}")
    return password


def _end_sessions(here: Runtime, account: Account) -> str:
    """End the login sessions of a changed account; return the end of the sentence that reports it."""
    if isinstance(here.state, MemoryState):
        return "; login sessions are in the memory of the server processes and were not ended"
    try:
        count = here.sessions.revoke(account_id=account.id)
    except StateUnavailable as error:
        raise click.ClickException(
            f"{account.user_name} was changed, but its login sessions could not be ended: {error}"
        ) from None
    finally:
        here.state.close()
    events.session_revoked(current_application(), account.id, account.contact_center, count, by="a command")
    return f"; login sessions ended: {count}"


def _plain(account: Account) -> dict[str, Any]:
    names = ("id", "contact_center", "user_name", "first_name", "last_name", "roles", "enabled")
    return {name: getattr(account, name) for name in names} | {"roles": sorted(account.roles)}
