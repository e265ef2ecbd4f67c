"""What an LDAP directory says of its own health: each server asked anew, and the relaxations that are in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from ...checks import Check
from ...upstream import Deadline
from .connection import Connection
from .results import NoAnswer

if TYPE_CHECKING:
    from ...config.values import Ldap
    from .server import DirectoryServer

_WAY = "look at this server, the way to it, and its certificate (configuration_server.ca_file)"


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
            yield Check(name, "failure", missed.outcome.detail, _WAY)
            return
        try:
            yield from _connection_checks(name, connection, deadline, began)
        finally:
            connection.close()
        if settings.bind_password is not None or settings.base or settings.group_base:
            yield from _service_checks(name, settings, server, deadline)


def _connection_checks(name: str, connection: Connection, deadline: Deadline, began: float) -> Iterator[Check]:
    try:
        connection.read("", [], deadline)
    except NoAnswer as missed:
        if missed.code is None:
            yield Check(name, "failure", missed.outcome.detail, _WAY)
            return
    milliseconds = (perf_counter() - began) * 1000
    secured = connection.tls_version or "no TLS"
    yield Check(name, "ok", f"connected and answered in {milliseconds:.0f} ms, {secured}")


def _service_checks(name: str, settings: Ldap, server: DirectoryServer, deadline: Deadline) -> Iterator[Check]:
    try:
        connection = server.open_for_service(deadline)
    except NoAnswer as missed:
        yield Check(f"{name}.bind_dn", "failure", missed.outcome.detail, "nobody can log in until that is mended")
        return
    try:
        if settings.bind_password is not None:
            yield Check(f"{name}.bind_dn", "ok", f"{settings.bind_dn} is bound")
        for key in ("base", "group_base"):
            if getattr(settings, key):
                yield _base_check(f"{name}.{key}", getattr(settings, key), connection, deadline)
    finally:
        connection.close()


def _base_check(name: str, base: str, connection: Connection, deadline: Deadline) -> Check:
    advice = "mend it, or let bind_dn read it (the directory's access rules)"
    try:
        found = connection.read(base, [], deadline)
    except NoAnswer as missed:
        return Check(name, "failure", f"{base}: {missed.outcome.detail}", advice)
    if found is None:
        return Check(name, "failure", f"{base} is not there, or bind_dn does not see it", advice)
    return Check(name, "ok", f"{base} is there")
