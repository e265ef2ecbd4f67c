"""``doctor``: what every part says of its health, and what to do about it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from flask.cli import ScriptInfo

from ..checks import Check
from ..errors import ConfigurationError
from ..events import plain
from ..web.runtime import EXTENSION, runtime
from .common import as_json, file_finding, print_json

if TYPE_CHECKING:
    from flask import Flask

DEFAULT_WAIT = 30.0
_LONGEST_LINE = 2000
_MARKS = {"ok": ("ok", "green"), "warning": ("WARNING", "yellow"), "failure": ("FAILURE", "red")}


@click.command("doctor", short_help="Look at everything, say what to do.")
@as_json
@click.option("--offline", is_flag=True, help="Look at nothing that goes over the network.")
@click.option("--strict", is_flag=True, help="Let warnings fail, too.")
@click.option("--quiet", is_flag=True, help="Show warnings and failures only.")
@click.option(
    "--wait",
    default=DEFAULT_WAIT,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="For everything together.",
)
@click.pass_context
def doctor(context: click.Context, as_json: bool, offline: bool, strict: bool, quiet: bool, wait: float) -> None:
    """Look at everything, and say of each thing whether it is well and what to do if it is not.

    Nothing is changed, and no person's credentials are sent anywhere. The exit status is 1 if something has failed
    (with --strict, also if there is a warning).
    """
    app = _load(context)
    checks = app if isinstance(app, list) else _examine(app, offline=offline, seconds=wait)
    counts: Counter[str] = Counter(check.status for check in checks)
    bad = {"failure", "warning"} if strict else {"failure"}
    failed = any(counts[status] for status in bad)
    shown = [check for check in checks if not quiet or check.status != "ok"]
    if as_json:
        print_json(_plain(shown, counts, failed=failed))
    else:
        _print(shown, counts)
    if failed:
        context.exit(1)


def _load(context: click.Context) -> Flask | list[Check]:
    """Return the application, or what is wrong with its configuration: then there is no application to look at."""
    try:
        app = context.ensure_object(ScriptInfo).load_app()
    except ConfigurationError as error:
        return [_problem(problem) for problem in error.problems]
    except (OSError, ValueError) as error:
        finding = file_finding(error)
        if finding is None:
            raise
        return [Check("configuration", "failure", finding, "correct it: the application does not start before")]
    if EXTENSION not in app.extensions:
        return [
            Check(
                "configuration",
                "failure",
                f"the application {app.name!r} has no GenesysAuth",
                "call auth.init_app(app) where the application is made",
            )
        ]
    return app


def _problem(problem: str) -> Check:
    path, separator, finding = problem.partition(": ")
    if not separator:
        path, finding = "", problem
    name = f"configuration.{path}" if path else "configuration"
    return Check(name, "failure", finding, "correct it: the application does not start before")


def _examine(app: Flask, *, offline: bool, seconds: float) -> list[Check]:
    from .rooms import rooms_of, run

    here = runtime(app)
    try:
        return run(app, rooms_of(app, here, ask=not offline), seconds=seconds)
    finally:
        here.state.close()


def _plain(checks: list[Check], counts: Counter[str], *, failed: bool) -> dict[str, Any]:
    return {
        "healthy": not failed,
        "counts": {status: counts[status] for status in _MARKS},
        "checks": [
            {"name": one.name, "status": one.status, "finding": one.finding, "advice": one.advice} for one in checks
        ],
    }


def _print(checks: list[Check], counts: Counter[str]) -> None:
    by_room: dict[str, list[Check]] = {}
    for check in checks:
        by_room.setdefault(check.name.partition(".")[0], []).append(check)
    for room, found in by_room.items():
        click.secho(room, bold=True)
        for check in found:
            mark, colour = _MARKS[check.status]
            below = check.name.partition(".")[2]
            click.echo(
                f"  {click.style(mark.ljust(8), fg=colour)} {below + ': ' if below else ''}{_line(check.finding)}"
            )
            if check.advice:
                click.echo(f"           -> {_line(check.advice)}")
    click.echo()
    click.echo(", ".join(f"{counts[status]} {_counted(status, counts[status])}" for status in _MARKS))


def _counted(status: str, count: int) -> str:
    return status if status == "ok" or count == 1 else f"{status}s"


def _line(text: str) -> str:
    """Return text in one line that any terminal can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return plain(text, _LONGEST_LINE).encode(encoding, "backslashreplace").decode(encoding)
