"""``doctor``: what every part says of its health, and what to do about it."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import click
from flask.cli import ScriptInfo

from ..accounts.passwords import password_checks
from ..accounts.store import SqlAccounts
from ..checks import Check, installed_version
from ..config.databases import is_redis
from ..config.health import configuration_checks, files_checks
from ..errors import ConfigurationError, GenesysAuthError
from ..events import plain
from ..web.health import access_checks, application_checks, cookie_checks, flask_login_checks
from ..web.runtime import EXTENSION, runtime
from .common import as_json, file_finding, print_json

if TYPE_CHECKING:
    from flask import Flask

    from ..web.runtime import Runtime

_LONGEST_LINE = 2000
_MARKS = {"ok": ("ok", "green"), "warning": ("WARNING", "yellow"), "failure": ("FAILURE", "red")}
_WORKERS = 16
"""CheckGroups that are looked at side by side: they wait for servers, most of the time."""

_ACCOUNTS = "accounts.contact_centers"
_PACKAGES = [
    "flask-genesys-auth",
    "flask",
    "werkzeug",
    "flask-login",
    "sqlalchemy",
    "urllib3",
    "argon2-cffi",
    "marshmallow",
]


@click.command("doctor", short_help="Look at everything, say what to do.")
@as_json
@click.option("--offline", is_flag=True, help="Look at nothing that goes over the network.")
@click.option("--strict", is_flag=True, help="Let warnings fail, too.")
@click.option("--quiet", is_flag=True, help="Show warnings and failures only.")
@click.option(
    "--wait",
    default=30.0,
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
    here = runtime(app)
    try:
        return run_checks(app, check_groups(app, here, ask=not offline), seconds=seconds)
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
    by_group: dict[str, list[Check]] = {}
    for check in checks:
        by_group.setdefault(check.name.partition(".")[0], []).append(check)
    for group, found in by_group.items():
        click.secho(group, bold=True)
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


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """What is looked at for itself.

    :param name: how its checks' names begin.
    :param look: returns its checks; whatever it raises is a failure of this group alone.
    :param asks: whether it goes over the network.
    """

    name: str
    look: Callable[[], Iterable[Check]]
    asks: bool = False


def check_groups(app: Flask, here: Runtime, *, ask: bool = True) -> list[CheckGroup]:
    """Return all groups of an application, in the order in which they are shown.

    :param ask: whether those that go over the network belong to them.
    """
    settings = here.settings
    local_state = settings.state_url.startswith(("sqlite", "memory"))
    local_accounts = settings.accounts_url.startswith("sqlite")
    found = [
        CheckGroup("versions", _versions),
        CheckGroup("configuration", lambda: configuration_checks(settings)),
        CheckGroup("files", lambda: files_checks(settings)),
        CheckGroup("application", lambda: application_checks(app, here)),
        CheckGroup("access", lambda: access_checks(app, here)),
        CheckGroup("cookies", lambda: cookie_checks(app, here)),
        CheckGroup("flask_login", lambda: flask_login_checks(app, here)),
        CheckGroup("passwords", lambda: password_checks(here.hasher, settings.passwords)),
        *_by_convention("state", here.state, asks=not local_state),
        *_by_convention("accounts", here.accounts, asks=not local_accounts),
        CheckGroup(_ACCOUNTS, lambda: _account_checks(here), asks=not local_accounts),
        *_by_convention("throttle", here.throttle.ledger, asks=is_redis(settings.throttle.storage_url)),
        *_saml_groups(here, ask=ask),
        *_step_groups(here),
    ]
    return [group for group in found if ask or not group.asks]


def run_checks(app: Flask, groups: list[CheckGroup], *, seconds: float) -> list[Check]:
    """Look at all groups and return their checks, in the order of the groups.

    A group that has not ended in time is a failure, as is one that raises; threads of such groups end with the process.

    :param seconds: for all of them together.
    """
    found: list[list[Check] | None] = [None] * len(groups)
    waiting = deque(enumerate(groups))

    def work() -> None:
        while True:
            try:
                place, group = waiting.popleft()
            except IndexError:
                return
            found[place] = _look(app, group)

    threads = [Thread(target=work, name="doctor", daemon=True) for _ in range(min(_WORKERS, len(groups)))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [
        check
        for group, checks in zip(groups, found, strict=True)
        for check in ([_late(group, seconds)] if checks is None else checks)
    ]


def _look(app: Flask, group: CheckGroup) -> list[Check]:
    found: list[Check] = []
    try:
        with app.app_context():
            found.extend(group.look())
    except Exception as error:  # whatever it is: the other groups are looked at all the same
        found.append(_crashed(group, error))
    return found


def _crashed(group: CheckGroup, error: Exception) -> Check:
    """Describe an error without its words, which may hold anything, unless they are our own."""
    if isinstance(error, GenesysAuthError):
        return Check(group.name, "failure", str(error), "do what it says")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace is not None else ""
    return Check(
        group.name, "failure", f"looking at it raised {type(error).__name__}{place}", "this is a bug: report it"
    )


def _late(group: CheckGroup, seconds: float) -> Check:
    finding = f"nothing came within {seconds:g} s"
    return Check(group.name, "failure", finding, "see what it waits for; --wait gives it longer")


def _by_convention(name: str, part: object, *, asks: bool) -> Iterator[CheckGroup]:
    look = getattr(part, "checks", None)
    if callable(look):
        yield CheckGroup(name, look, asks)
    else:
        finding = f"{type(part).__name__} is the application's own and has no checks()"
        yield CheckGroup(name, lambda: [Check(name, "ok", finding)])


def _versions() -> Iterator[Check]:
    python = f"Python {platform.python_version()} on {sys.platform}"
    missing = "(not installed as a package)"
    yield Check(
        "versions", "ok", ", ".join([python, *(f"{name} {installed_version(name) or missing}" for name in _PACKAGES)])
    )


def _saml_groups(here: Runtime, *, ask: bool) -> Iterator[CheckGroup]:
    if not here.saml.service_providers:
        return
    from ..saml import library_check

    yield CheckGroup("saml", lambda: [library_check()])
    for name, service in here.saml.service_providers.items():
        # Without asking, it says what is at hand.
        yield CheckGroup(f"saml.{name}", partial(service.checks, ask=ask))
        yield CheckGroup(f"saml.{name}.clock", service.clock_checks, asks=True)


def _step_groups(here: Runtime) -> Iterator[CheckGroup]:
    """Return a group for each step, a further step that serves several contact centers once."""
    seen: set[int] = set()
    for center in here.contact_centers.values():
        for step in center.steps:
            look = getattr(step, "checks", None)
            if callable(look) and id(step) not in seen:
                seen.add(id(step))
                yield CheckGroup(f"{step.name}.{center.name}", _named(step.name, center.name, look), asks=True)


def _named(step: str, center: str, look: Callable[[], Iterable[Check]]) -> Callable[[], Iterable[Check]]:
    """Let names begin with the step and the contact center, as those of SAML do; a directory may know of neither."""

    def renamed() -> Iterator[Check]:
        for check in look():
            below = check.name.removeprefix(f"{step}.").removeprefix(f"{center}.")
            yield replace(check, name=f"{step}.{center}.{below}")

    return renamed


def _account_checks(here: Runtime) -> Iterator[Check]:
    store: Any = here.accounts
    if not isinstance(store, SqlAccounts):
        return
    try:
        counted = store.count()
    except GenesysAuthError:
        # What is wrong with the database is told by the store itself.
        return
    for name, number in sorted(counted.items()):
        if name not in here.contact_centers:
            finding = f"{name!r} is not configured, so nobody can use the accounts there: {number}"
            advice = "correct the name in the configuration, or delete them: flask genesys-auth accounts delete"
            yield Check(f"{_ACCOUNTS}.{name}", "warning", finding, advice)
    for name in here.contact_centers:
        number = counted.get(name, 0)
        if number:
            yield Check(f"{_ACCOUNTS}.{name}", "ok", f"accounts: {number}")
        elif _provisions(here, name):
            yield Check(f"{_ACCOUNTS}.{name}", "ok", "no accounts yet: the first SAML login makes them (provision)")
        else:
            advice = "make some: flask genesys-auth accounts add, or import"
            yield Check(f"{_ACCOUNTS}.{name}", "warning", "no accounts: nobody can log in", advice)


def _provisions(here: Runtime, contact_center: str) -> bool:
    saml = here.settings.contact_centers[contact_center].saml
    return saml is not None and any(provider.provision for provider in saml.identity_providers.values())
