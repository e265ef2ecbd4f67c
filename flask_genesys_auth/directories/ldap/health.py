"""What an LDAP directory says of its own health: each server asked anew, and the relaxations that are in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from ...checks import Check
from ...upstream import Deadline, advice
from .connection import Connection
from .results import NoAnswer

if TYPE_CHECKING:
    from ...config.settings import Ldap
    from .server import DirectoryServer

_SAID = ("bind_dn is refused", "; ")
"""What stands in a detail that says itself what to look at."""


def directory_checks(name: str, settings: Ldap, servers: Sequence[DirectoryServer], timeout: float) -> Iterator[Check]:
    """Yield what is to be said of a directory.

    :param name: of the checks, dotted.
    :param timeout: seconds for each server.
    """
    for server in servers:
        yield from _server_checks(f"{name}.{server.name}", settings, server, timeout)
        if not (server.address.tls or settings.start_tls or server.address.loopback):
            yield Check(
                f"{name}.{server.name}.allow_plain",
                "warning",
                "passwords cross the network in the open",
                "give the server ldaps:// or start_tls = true, then remove allow_plain",
            )


def _server_checks(name: str, settings: Ldap, server: DirectoryServer, timeout: float) -> Iterator[Check]:
    deadline = Deadline(timeout)
    with server.asked(deadline):
        began = perf_counter()
        try:
            connection = server.open(deadline)
        except NoAnswer as missed:
            yield _failure(name, missed)
            return
        try:
            check = _connection_check(name, connection, deadline, began)
        finally:
            connection.close()
        yield check
        if check.status == "failure":
            return
        if settings.bind_password is not None or settings.base or settings.group_base:
            yield from _service_checks(name, settings, server, deadline)


def _connection_check(name: str, connection: Connection, deadline: Deadline, began: float) -> Check:
    try:
        connection.read("", [], deadline)
    except NoAnswer as missed:
        if missed.code is None:
            return _failure(name, missed)
    milliseconds = (perf_counter() - began) * 1000
    secured = connection.tls_version or "no TLS"
    return Check(name, "ok", f"connected and answered in {milliseconds:.0f} ms, {secured}")


def _service_checks(name: str, settings: Ldap, server: DirectoryServer, deadline: Deadline) -> Iterator[Check]:
    try:
        connection = server.open_for_service(deadline)
    except NoAnswer as missed:
        yield _failure(f"{name}.bind_dn", missed)
        return
    try:
        if settings.bind_password is not None:
            yield Check(f"{name}.bind_dn", "ok", f"{settings.bind_dn} is bound")
        for key in ("base", "group_base"):
            if getattr(settings, key):
                yield _base_check(f"{name}.{key}", getattr(settings, key), connection, deadline)
    finally:
        connection.close()


def _failure(name: str, missed: NoAnswer) -> Check:
    detail = missed.outcome.detail
    told = "do what it says" if any(words in detail for words in _SAID) else advice(detail)
    return Check(name, "failure", detail, f"{told}; nobody can log in by this server before")


def _base_check(name: str, base: str, connection: Connection, deadline: Deadline) -> Check:
    mend = "mend it, or let bind_dn read it (the directory's access rules)"
    try:
        found = connection.read(base, [], deadline)
    except NoAnswer as missed:
        return Check(name, "failure", f"{base}: {missed.outcome.detail}", mend)
    if found is None:
        return Check(name, "failure", f"{base} is not there, or bind_dn does not see it", mend)
    return Check(name, "ok", f"{base} is there")
