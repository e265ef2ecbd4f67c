"""What the commands share: errors in one line, the application's parts, answers as text or JSON."""

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
"""What errors of the parsers are called, of tomllib and tomli alike; their words name a line and no value."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What writing ends with where nothing more goes in; the error names no file where that is our output."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Commands(AppGroup):
    """A group whose commands run in the application's context and whose errors are a line, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        :raises click.ClickException: for whatever this package raises on purpose, and for a file that cannot be read or
            written.
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
            _forget_output()
            raise click.ClickException(finding) from None


def _forget_output() -> None:
    """Let what could not be written be, or Python tries again when it ends, and complains itself."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def file_finding(error: Exception) -> str | None:
    """Return what is wrong with a file, in words that hold nothing of it; ``None`` if the error is another one.

    Applications read their configuration while they are made: it may be missing, or not be valid TOML or JSON. What
    a step raises while the chain is walked is a bug, and keeps its traceback.
    """
    if _passed(error, AuthenticationChain.walk):
        return None
    loading = _passed(error, ScriptInfo.load_app)
    if not isinstance(error, OSError):
        kind = _PARSERS.get(type(error).__name__) if loading else None
        return kind and f"a file that the application reads is not valid {kind}: {error}"
    if not error.strerror:
        return None
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # A broken pipe is none of them: whoever reads our output has had enough, and click ends without a word.
    return error.strerror if not loading and error.errno in _FULL else None


def _passed(error: Exception, function: Callable[..., Any]) -> bool:
    """Tell whether an error was raised while a function ran."""
    code = unwrap(function).__code__
    return any(frame.f_code is code for frame, _ in walk_tb(error.__traceback__))


def parts() -> Runtime:
    """Return the application's authentication.

    :raises click.ClickException: if the application has none.
    """
    if EXTENSION not in current_app.extensions:
        raise click.ClickException(f"the application {current_app.name!r} has no GenesysAuth: call auth.init_app(app)")
    return runtime()


def has_own_store(here: Runtime) -> bool:
    """Tell whether the application brings an account store of its own, which no command writes."""
    return not isinstance(here.accounts, SqlAccounts)


def own_accounts() -> SqlAccounts:
    """Return the built-in account store.

    :raises click.ClickException: if the application has its own.
    """
    store = parts().accounts
    if not isinstance(store, SqlAccounts):
        raise click.ClickException(
            f"the application has its own account store ({store!r}): manage accounts there, not here"
        )
    return store


def utc_time(seconds: float) -> str:
    """Return a unix time as operators read it (ISO 8601, UTC)."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print lines under their titles, each column as wide as it must be."""
    table = [list(titles), *(list(line) for line in lines)]
    widths = [max(len(line[place]) for line in table) for place in range(len(titles))]
    for line in table:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
