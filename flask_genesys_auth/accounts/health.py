"""What the accounts say of their own health: the database, its tables, its file; the cost of a password."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from sqlalchemy import false, select

from ..checks import SLOW, Check, file_checks
from ..errors import AccountsUnavailable, ConfigurationError
from .database import metadata

if TYPE_CHECKING:
    from ..config.settings import PasswordSettings
    from .database import AccountDatabase
    from .passwords import PasswordHasher

# OWASP's Password Storage Cheat Sheet: argon2id with at least one of these pairs, memory in KiB and iterations.
OWASP = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))
_COLUMNS = tuple(select(table).where(false()) for table in metadata.sorted_tables)
_MOST_OF_MEMORY = 0.25
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def database_checks(database: AccountDatabase, *, slow: float = SLOW) -> Iterator[Check]:
    """Yield whether the database answers, how fast, and whether it has the tables and lets them be read.

    :param slow: seconds from which an answer is too slow.
    """
    name = "accounts.tables"
    try:
        database.check_tables()
        began = perf_counter()
        database.check_tables()
        taken = perf_counter() - began
        _read(database)
    except AccountsUnavailable as error:
        yield Check(name, "failure", error.finding, "see that it is there, and that this user may use it")
    except ConfigurationError as error:
        yield Check(name, "failure", str(error), "do what it says: nobody has an account before")
    else:
        finding = f"the tables in {database.name} are there, looked at within {1000 * taken:.1f} ms"
        if taken > slow:
            yield Check(name, "warning", finding, "each request reads an account there: look why it is slow")
        else:
            yield Check(name, "ok", finding)
    if database.path is not None and database.path.exists():
        yield from file_checks("accounts.file", database.path, secret=True)


def _read(database: AccountDatabase) -> None:
    """Ask each table for all of its columns and for no row: whoever may not read one is told here.

    :raises AccountsUnavailable: if one cannot be read.
    """
    for wanted in _COLUMNS:
        database.first(wanted, {})


def password_checks(hasher: PasswordHasher, settings: PasswordSettings) -> Iterator[Check]:
    """Yield whether the cost of a password is enough, what it takes, and whether there is the memory for it."""
    began = perf_counter()
    hasher.hash("what it takes to hash a password")
    taken = perf_counter() - began
    cost = f"argon2id with {settings.memory_kib} KiB, {settings.iterations} iterations, {settings.lanes} lanes"
    enough = any(settings.memory_kib >= memory and settings.iterations >= rounds for memory, rounds in OWASP)
    if enough:
        yield Check("passwords.cost", "ok", f"{cost}: {1000 * taken:.0f} ms")
    else:
        yield Check(
            "passwords.cost",
            "warning",
            f"{cost} is less than OWASP's minimum: stolen hashes are guessed faster",
            "leave the passwords table out: the defaults are enough",
        )
    yield memory_check(settings, available_memory())


def memory_check(settings: PasswordSettings, there: int | None) -> Check:
    """Compare the memory that concurrent hashes take with the bytes that there are (``None``: unknown)."""
    name, taken = "passwords.memory", settings.memory_kib * settings.concurrent_hashes * 1024
    finding = f"{settings.concurrent_hashes} hashes at once take {taken >> 20} MiB in each process"
    if there is None:
        return Check(name, "ok", finding)
    finding += f", of {there >> 20} MiB on this machine"
    if taken > _MOST_OF_MEMORY * there:
        advice = "lower concurrent_hashes, or memory_kib with more iterations; count the number of processes"
        return Check(name, "warning", finding, advice)
    return Check(name, "ok", finding)


def available_memory(container_limit: Path = CONTAINER_LIMIT) -> int | None:
    """Return the bytes of memory that this process can have: the machine's, or its container's if that is less.

    :param container_limit: the file in which the kernel shows the limit of the container.
    """
    found: list[int] = []
    with suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # the file says "max" where there is no limit
        found.append(int(container_limit.read_text()))
    return min((size for size in found if size > 0), default=None)
