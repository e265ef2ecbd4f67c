"""``doctor``: run the health checks of all parts, in parallel and in bounded time."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
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
from .base import as_json, file_finding, print_json

if TYPE_CHECKING:
    from flask import Flask

    from ..web.runtime import Runtime

_LONGEST_LINE = 2000
_CORRECT = "correct it: the application cannot start"
_MARKS = {"ok": ("ok", "green"), "warning": ("WARNING", "yellow"), "failure": ("FAILURE", "red")}
_WORKERS = 16
"""Check groups that run in parallel; they mostly wait for servers."""

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


@click.command("doctor", short_help="Run all health checks.")
@as_json
@click.option("--offline", is_flag=True, help="Skip checks that use the network.")
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@click.option("--quiet", is_flag=True, help="Print only warnings and failures.")
@click.option(
    "--wait",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="Time limit for all checks together.",
)
@click.pass_context
def doctor(context: click.Context, as_json: bool, offline: bool, strict: bool, quiet: bool, wait: float) -> None:
    """Run all health checks and print each result, with advice for warnings and failures.

    The checks store and remove one entry of the state; they change nothing else and send no user's credentials.
    The exit status is 1 if a check fails (with --strict, also for a warning).
    """
    app = _load(context)
    checks = app if isinstance(app, list) else _examine(app, offline=offline, seconds=wait)
    counts: Counter[str] = Counter(check.status for check in checks)
    bad = {"failure", "warning"} if strict else {"failure"}
    failed = any(counts[status] for status in bad)
    shown = [check for check in checks if not quiet or check.status != "ok"]
    if as_json:
        counted = {status: counts[status] for status in _MARKS}
        print_json({"healthy": not failed, "counts": counted, "checks": [asdict(check) for check in shown]})
    else:
        _print(shown, counts)
    if failed:
        context.exit(1)


def _load(context: click.Context) -> Flask | list[Check]:
    """Return the application, or the problems in its configuration that keep it from starting."""
    try:
        app = context.ensure_object(ScriptInfo).load_app()
    except ConfigurationError as error:
        return [_problem(problem) for problem in error.problems]
    except (OSError, ValueError) as error:
        finding = file_finding(error)
        if finding is None:
            raise
        return [Check("configuration", "failure", finding, _CORRECT)]
    if EXTENSION in app.extensions:
        return app
    finding = f"the application {app.name!r} has no GenesysAuth"
    return [Check("configuration", "failure", finding, "call auth.init_app(app) where the application is created")]


def _problem(problem: str) -> Check:
    path, separator, finding = problem.partition(": ")
    if not separator:
        return Check("configuration", "failure", problem, _CORRECT)
    return Check(f"configuration.{path}", "failure", finding, _CORRECT)


def _examine(app: Flask, *, offline: bool, seconds: float) -> list[Check]:
    here = runtime(app)
    try:
        return run_checks(app, check_groups(app, here, online=not offline), seconds=seconds)
    finally:
        here.state.close()


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
    plural = {status: "" if status == "ok" or counts[status] == 1 else "s" for status in _MARKS}
    click.echo(", ".join(f"{counts[status]} {status}{plural[status]}" for status in _MARKS))


def _line(text: str) -> str:
    """Return text as one line that the terminal's encoding can print."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return plain(text, _LONGEST_LINE).encode(encoding, "backslashreplace").decode(encoding)


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """Checks that run together.

    :param name: the first part of its checks' names.
    :param run: returns the checks; an exception is a failure of this group alone.
    :param online: whether it uses the network.
    """

    name: str
    run: Callable[[], Iterable[Check]]
    online: bool = False


def check_groups(app: Flask, here: Runtime, *, online: bool = True) -> list[CheckGroup]:
    """Return the check groups of an application, in the order in which they are printed.

    :param online: include those that use the network.
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
        *_optional_checks("state", here.state, online=not local_state),
        *_optional_checks("accounts", here.accounts, online=not local_accounts),
        CheckGroup(_ACCOUNTS, lambda: _account_checks(here), online=not local_accounts),
        *_optional_checks("throttle", here.throttle.ledger, online=is_redis(settings.throttle.storage_url)),
        *_saml_groups(here, online=online),
        *_step_groups(here),
    ]
    return [group for group in found if online or not group.online]


def run_checks(app: Flask, groups: list[CheckGroup], *, seconds: float) -> list[Check]:
    """Run all groups and return their checks, in the order of the groups.

    A group that times out or raises is a failure. The threads are daemons: a hung one ends with the process.

    :param seconds: the time limit for all groups together.
    """
    found: list[list[Check] | None] = [None] * len(groups)
    waiting = deque(enumerate(groups))

    def work() -> None:
        while True:
            try:
                place, group = waiting.popleft()
            except IndexError:
                return
            found[place] = _run(app, group)

    threads = [Thread(target=work, name="doctor", daemon=True) for _ in range(min(_WORKERS, len(groups)))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [
        check
        for group, checks in zip(groups, found, strict=True)
        for check in ([_timeout_check(group, seconds)] if checks is None else checks)
    ]


def _run(app: Flask, group: CheckGroup) -> list[Check]:
    found: list[Check] = []
    try:
        with app.app_context():
            found.extend(group.run())
    except Exception as error:  # a fault of one group must not prevent the others
        found.append(_error_check(group, error))
    return found


def _error_check(group: CheckGroup, error: Exception) -> Check:
    """Describe an error; print its message only if it is ours, since others may hold secrets."""
    if isinstance(error, GenesysAuthError):
        return Check(group.name, "failure", str(error), "correct what the message reports")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace is not None else ""
    return Check(group.name, "failure", f"the check raised {type(error).__name__}{place}", "this is a bug; report it")


def _timeout_check(group: CheckGroup, seconds: float) -> Check:
    finding = f"no result within {seconds:g} s"
    return Check(group.name, "failure", finding, "check the server that it waits for, or raise --wait")


def _optional_checks(name: str, part: object, *, online: bool) -> Iterator[CheckGroup]:
    checks = getattr(part, "checks", None)
    if callable(checks):
        yield CheckGroup(name, checks, online)
    else:
        finding = f"{type(part).__name__} is the application's own and has no checks()"
        yield CheckGroup(name, lambda: [Check(name, "ok", finding)])


def _versions() -> Iterator[Check]:
    python = f"Python {platform.python_version()} on {sys.platform}"
    missing = "(not installed as a package)"
    yield Check(
        "versions", "ok", ", ".join([python, *(f"{name} {installed_version(name) or missing}" for name in _PACKAGES)])
    )


def _saml_groups(here: Runtime, *, online: bool) -> Iterator[CheckGroup]:
    if not here.saml.service_providers:
        return
    from ..saml import library_check

    yield CheckGroup("saml", lambda: [library_check()])
    for name, service in here.saml.service_providers.items():
        # Offline, it reports what is cached.
        yield CheckGroup(f"saml.{name}", partial(service.checks, ask=online))
        yield CheckGroup(f"saml.{name}.clock", service.clock_checks, online=True)


def _step_groups(here: Runtime) -> Iterator[CheckGroup]:
    """Return a group for each step; an extra step that serves several contact centers occurs once."""
    seen: set[int] = set()
    for center in here.contact_centers.values():
        for step in center.steps:
            checks = getattr(step, "checks", None)
            if callable(checks) and id(step) not in seen:
                seen.add(id(step))
                yield CheckGroup(f"{step.name}.{center.name}", _renamed(step.name, center.name, checks), online=True)


def _renamed(step: str, center: str, checks: Callable[[], Iterable[Check]]) -> Callable[[], Iterable[Check]]:
    """Prefix the checks' names with step and contact center, which a directory may not know."""

    def renamed() -> Iterator[Check]:
        for check in checks():
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
        # The store's own checks report it.
        return
    for name, number in sorted(counted.items()):
        if name not in here.contact_centers:
            finding = f"contact center {name!r} is not configured; accounts that cannot log in: {number}"
            advice = "correct the name in the configuration, or delete the accounts: flask genesys-auth accounts delete"
            yield Check(f"{_ACCOUNTS}.{name}", "warning", finding, advice)
    for name in here.contact_centers:
        number = counted.get(name, 0)
        if number:
            yield Check(f"{_ACCOUNTS}.{name}", "ok", f"accounts: {number}")
        elif _provisions(here, name):
            yield Check(f"{_ACCOUNTS}.{name}", "ok", "no accounts yet: SAML logins create them (provision)")
        else:
            advice = "create some: flask genesys-auth accounts add, or accounts import"
            yield Check(f"{_ACCOUNTS}.{name}", "warning", "no accounts: users cannot log in", advice)


def _provisions(here: Runtime, contact_center: str) -> bool:
    saml = here.settings.contact_centers[contact_center].saml
    return saml is not None and any(provider.provision for provider in saml.identity_providers.values())
