"""Gathers what every room says of its health: side by side, each for itself, and all of them in bounded time."""

from __future__ import annotations

import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..accounts.passwords import password_checks
from ..accounts.store import SqlAccounts
from ..checks import Check
from ..config.databases import is_redis
from ..config.health import configuration_checks, files_checks
from ..errors import GenesysAuthError
from ..web.health import access_checks, application_checks, cookie_checks, flask_login_checks

if TYPE_CHECKING:
    from flask import Flask

    from ..web.runtime import Runtime

WORKERS = 16
"""Rooms that are looked at side by side: they wait for servers, most of the time."""

_ACCOUNTS = "accounts.contact_centers"
_PACKAGES = (
    "flask-genesys-auth",
    "flask",
    "werkzeug",
    "flask-login",
    "sqlalchemy",
    "urllib3",
    "argon2-cffi",
    "marshmallow",
)


@dataclass(frozen=True, slots=True)
class Room:
    """What is looked at for itself.

    :param name: how its checks' names begin.
    :param look: returns its checks; whatever it raises is a failure of this room alone.
    :param asks: whether it goes over the network.
    """

    name: str
    look: Callable[[], Iterable[Check]]
    asks: bool = False


def rooms_of(app: Flask, here: Runtime, *, ask: bool = True) -> list[Room]:
    """Return all rooms of an application, in the order in which they are shown.

    :param ask: whether those that go over the network belong to them.
    """
    settings = here.settings
    local_state = settings.state_url.startswith(("sqlite", "memory"))
    local_accounts = settings.accounts_url.startswith("sqlite")
    found = [
        Room("versions", _versions),
        Room("configuration", lambda: configuration_checks(settings)),
        Room("files", lambda: files_checks(settings)),
        Room("application", lambda: application_checks(app, here)),
        Room("access", lambda: access_checks(app, here)),
        Room("cookies", lambda: cookie_checks(app, here)),
        Room("flask_login", lambda: flask_login_checks(app, here)),
        Room("passwords", lambda: password_checks(here.hasher, settings.passwords)),
        *_by_convention("state", here.state, asks=not local_state),
        *_by_convention("accounts", here.accounts, asks=not local_accounts),
        Room(_ACCOUNTS, lambda: _account_checks(here), asks=not local_accounts),
        *_by_convention("throttle", here.throttle.ledger, asks=is_redis(settings.throttle.storage_url)),
        *_saml_rooms(here, ask=ask),
        *_step_rooms(here),
    ]
    return [room for room in found if ask or not room.asks]


def run(app: Flask, rooms: list[Room], *, seconds: float) -> list[Check]:
    """Look at all rooms and return their checks, in the order of the rooms.

    A room that has not ended in time is a failure, as is one that raises; threads of such rooms end with the process.

    :param seconds: for all of them together.
    """
    found: list[list[Check] | None] = [None] * len(rooms)
    waiting = deque(enumerate(rooms))

    def work() -> None:
        while True:
            try:
                place, room = waiting.popleft()
            except IndexError:
                return
            found[place] = _look(app, room)

    threads = [Thread(target=work, name="doctor", daemon=True) for _ in range(min(WORKERS, len(rooms)))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [
        check
        for room, checks in zip(rooms, found, strict=True)
        for check in ([_late(room, seconds)] if checks is None else checks)
    ]


def _look(app: Flask, room: Room) -> list[Check]:
    found: list[Check] = []
    try:
        with app.app_context():
            found.extend(room.look())
    except Exception as error:  # whatever it is: the other rooms are looked at all the same
        found.append(_crashed(room, error))
    return found


def _crashed(room: Room, error: Exception) -> Check:
    """Describe an error without its words, which may hold anything, unless they are our own."""
    if isinstance(error, GenesysAuthError):
        return Check(room.name, "failure", str(error), "do what it says")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace is not None else ""
    return Check(
        room.name, "failure", f"looking at it raised {type(error).__name__}{place}", "this is a bug: report it"
    )


def _late(room: Room, seconds: float) -> Check:
    finding = f"nothing came within {seconds:g} s"
    return Check(room.name, "failure", finding, "see what it waits for; --wait gives it longer")


def _by_convention(name: str, part: object, *, asks: bool) -> Iterator[Room]:
    look = getattr(part, "checks", None)
    if callable(look):
        yield Room(name, look, asks)
    else:
        finding = f"{type(part).__name__} is the application's own and has no checks()"
        yield Room(name, lambda: [Check(name, "ok", finding)])


def _versions() -> Iterator[Check]:
    python = f"Python {platform.python_version()} on {sys.platform}"
    yield Check("versions", "ok", ", ".join([python, *(f"{name} {_version(name)}" for name in _PACKAGES)]))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed as a package)"


def _saml_rooms(here: Runtime, *, ask: bool) -> Iterator[Room]:
    if not here.saml.service_providers:
        return
    from ..saml import library_check

    yield Room("saml", lambda: [library_check()])
    for name, service in here.saml.service_providers.items():
        # Without asking, it says what is at hand.
        yield Room(f"saml.{name}", partial(service.checks, ask=ask))
        yield Room(f"saml.{name}.clock", service.clock_checks, asks=True)


def _step_rooms(here: Runtime) -> Iterator[Room]:
    """Return a room for each step, a further step that serves several contact centers once."""
    seen: set[int] = set()
    for center in here.contact_centers.values():
        for step in center.steps:
            look = getattr(step, "checks", None)
            if callable(look) and id(step) not in seen:
                seen.add(id(step))
                yield Room(f"{step.name}.{center.name}", _named(step.name, center.name, look), asks=True)


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
