"""What PostgreSQL says of its own health as the keeper of the state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from sqlalchemy import and_, extract, func, select

from ..checks import Check, clock_check
from ..errors import ConfigurationError, StateUnavailable
from .tables import entries, schema, terms

OLDEST = 130_000
_CLOCKS_MAY_DIFFER = 30.0
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_TABLES = (entries.name, terms.name)

LOOK = select(
    func.current_setting("server_version_num"),
    func.current_setting("server_version"),
    extract("epoch", func.clock_timestamp()),
    func.current_setting("synchronous_commit"),
    func.current_setting("transaction_read_only"),
    and_(
        func.has_table_privilege(schema.name, "SELECT"),
        *(func.has_table_privilege(table, right) for table in _TABLES for right in _RIGHTS),
    ),
)
"""One row: version as a number and as text, the clock, two settings, and whether this user may do what is needed."""


def server_checks(name: str, look: Callable[[], Sequence[Any]]) -> Iterator[Check]:
    """Yield what is to be said of the server.

    :param name: its address, without a secret.
    :param look: returns the row of :data:`LOOK`.
    """
    try:
        look()
        began = perf_counter()
        number, version, clock, synchronous, read_only, allowed = look()
        taken = perf_counter() - began
    except StateUnavailable as error:
        advice = "see that it runs, and that this machine may reach it with that user and password"
        yield Check("state.server", "failure", error.finding, advice)
        return
    except ConfigurationError as error:
        yield Check("state.server", "failure", str(error), "do what it says: people cannot log in before")
        return
    ahead = float(clock) - (time.time() - taken / 2)
    finding = f"PostgreSQL {version} at {name}, {1000 * taken:.1f} ms"
    if int(number) < OLDEST:
        yield Check("state.server", "failure", finding, "version 13 or later is needed")
    else:
        yield Check("state.server", "ok", finding)
    yield clock_check("state.clock", "PostgreSQL", ahead, allowed=_CLOCKS_MAY_DIFFER)
    yield _rights_check(read_only, allowed)
    yield _commit_check(synchronous)


def _rights_check(read_only: str, allowed: bool) -> Check:
    name = "state.rights"
    if read_only != "off":
        finding = "it takes no changes: a standby, or default_transaction_read_only for this user"
        return Check(name, "failure", finding, "name the primary in state_url, or let this user write")
    if not allowed:
        finding = f"this user lacks one of {', '.join(_RIGHTS)} on {' or '.join(_TABLES)}"
        return Check(name, "failure", finding, f"GRANT {', '.join(_RIGHTS)} ON {', '.join(_TABLES)} TO this user")
    return Check(name, "ok", "this user may read and change what it must")


def _commit_check(synchronous: str) -> Check:
    name = "state.synchronous_commit"
    if synchronous != "off":
        return Check(name, "ok", f"what was confirmed is on disk (synchronous_commit {synchronous})")
    return Check(
        name,
        "warning",
        "synchronous_commit is off: a crash may bring back a login that was ended, or let a one-time key count twice",
        "ALTER ROLE ... SET synchronous_commit = on for the application's user",
    )
