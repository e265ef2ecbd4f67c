"""The base of all commands: one-line errors, access to the runtime, output as text or JSON."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from inspect import unwrap
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup, ScriptInfo

from ..accounts.store import SqlAccounts
from ..chain.walk import AuthenticationChain
from ..errors import GenesysAuthError
from ..web.runtime import EXTENSION, runtime

if TYPE_CHECKING:
    from ..web.runtime import Runtime

_PARSERS = {"TOMLDecodeError": "TOML", "JSONDecodeError": "JSON"}
"""Parser errors by class name, of tomllib and tomli alike; their messages name a line and no value."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of writing to a full device; without a file name, the file is our standard output."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Commands(AppGroup):
    """A command group that runs in the application context and prints errors as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        :raises click.ClickException: for each :class:`GenesysAuthError`, and for a file that cannot be read or written.
        """
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except GenesysAuthError as error:
            raise click.ClickException(str(error)) from None
        except (OSError, ValueError) as error:
            finding = file_finding(error)
            if finding is None:
                raise
            _discard_output()
            raise click.ClickException(finding) from None


def _discard_output() -> None:
    """Discard unwritten output; otherwise Python retries at exit and prints its own error."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def file_finding(error: Exception) -> str | None:
    """Describe a file error without any of the file's content; return ``None`` for other errors.

    Applications read their configuration when they are created: it may be missing, or not be valid TOML or JSON. An
    error that a step raises during a walk is a bug and keeps its traceback.
    """
    if _raised_within(error, AuthenticationChain.walk):
        return None
    loading = _raised_within(error, ScriptInfo.load_app)
    if not isinstance(error, OSError):
        kind = _PARSERS.get(type(error).__name__) if loading else None
        return kind and f"a file that the application reads is not valid {kind}: {error}"
    if not error.strerror:
        return None
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # A broken pipe is not among them: the reader closed our output, and click exits silently.
    return error.strerror if not loading and error.errno in _FULL else None


def _raised_within(error: Exception, function: Callable[..., Any]) -> bool:
    """Return whether an error was raised while a function ran."""
    code = unwrap(function).__code__
    return any(frame.f_code is code for frame, _ in walk_tb(error.__traceback__))


def require_runtime() -> Runtime:
    """Return the runtime of the current application.

    :raises click.ClickException: if the application has no GenesysAuth.
    """
    if EXTENSION not in current_app.extensions:
        raise click.ClickException(f"the application {current_app.name!r} has no GenesysAuth: call auth.init_app(app)")
    return runtime()


def has_own_store(here: Runtime) -> bool:
    """Return whether the application has its own account store, to which no command writes."""
    return not isinstance(here.accounts, SqlAccounts)


def builtin_accounts() -> SqlAccounts:
    """Return the built-in account store.

    :raises click.ClickException: if the application has its own.
    """
    store = require_runtime().accounts
    if not isinstance(store, SqlAccounts):
        raise click.ClickException(f"the application has its own account store ({store!r}); manage accounts there")
    return store


def utc_time(seconds: float) -> str:
    """Format a unix time (ISO 8601, UTC)."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print lines in aligned columns under their titles."""
    table = [list(titles), *(list(line) for line in lines)]
    widths = [max(len(line[place]) for line in table) for place in range(len(titles))]
    for line in table:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
