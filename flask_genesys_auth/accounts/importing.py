"""Accounts out of a JSON or CSV file: every row is checked, and every finding named, before any is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from ..config.names import fold
from . import rows
from .management import BATCH
from .models import AccountError, NewAccount, Taken
from .reading import FIELDS, TEXTS, ImportRefused, Problem, Row, read_rows, shown

if TYPE_CHECKING:
    from typing import TextIO

    from .store import SqlAccounts

__all__ = ["ImportRefused", "Problem", "check_file", "import_file"]

_TRUTH = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def import_file(
    path: Path,
    store: SqlAccounts,
    contact_centers: Mapping[str, object],
    hash_password: Callable[[str], str],
    *,
    progress: Callable[[int, int], object] = lambda _, __: None,
) -> int:
    """Make the accounts of a file, all in one transaction, and return how many there were.

    Fields: ``contact_center``, ``user_name``, and if wanted ``first_name``, ``last_name``, ``roles``, ``enabled``,
    ``password`` or ``password_hash`` (argon2id in PHC form), ``identities``. In CSV (UTF-8, a header line) roles and
    ``PROVIDER=VALUE`` identities are separated by semicolons; in JSON (an array of objects) they are an array and an
    object of texts or arrays of texts.

    The file is read twice, and nothing is kept of it but what must be unique: first all rows are checked, then their
    passwords are hashed, which may take long, and put aside with the rows in a file without a name. Only then the
    transaction begins.

    :param path: ends in ``.json`` or ``.csv``.
    :param progress: is told, now and then, how many rows have been hashed, and of how many.
    :raises ImportRefused: if a row is wrong; names all that are.
    :raises AccountsUnavailable: if the database does not answer.
    """
    stamp = _stamp(path)
    total = check_file(path, store, contact_centers)
    with TemporaryFile("w+", encoding="utf-8") as aside:
        for place, row in enumerate(read_rows(path), start=1):
            json.dump(_kept(_new(row, hash_password)[0]), aside)
            aside.write("\n")
            progress(place, total)
        if _stamp(path) != stamp:
            raise AccountError(f"{path.name}: has changed while it was read; nothing was imported")
        return store.import_stream(lambda: _put_aside(aside))


def check_file(path: Path, store: SqlAccounts, contact_centers: Mapping[str, object]) -> int:
    """Go through the whole file and return how many accounts it would make.

    :raises ImportRefused: if a row is wrong; names all that are.
    :raises AccountsUnavailable: if the database does not answer.
    """
    found: list[Problem] = []
    names: dict[tuple[str, str], int] = {}
    linked: dict[tuple[str, str, str], int] = {}
    total = 0
    for batch in _batches(read_rows(path)):
        total += len(batch)
        read = [(row, *_new(row, None)) for row in batch]
        taken = store.taken([new for _, new, _ in read])
        for row, new, problems in read:
            found += problems
            wrong = {problem.field for problem in problems}
            if not row.readable or "contact_center" in wrong:
                continue
            if new.contact_center not in contact_centers:
                found.append(Problem(row.line, "contact_center", f"{new.contact_center!r} is not configured"))
            if "user_name" not in wrong:
                found += _name_taken(row, new, names, taken)
            if "identities" not in wrong:
                found += _identities_taken(row, new, linked, taken)
    if found:
        raise ImportRefused(*found)
    return total


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _kept(new: NewAccount) -> dict[str, Any]:
    return {**asdict(new), "roles": sorted(new.roles)}


def _put_aside(aside: TextIO) -> Iterator[NewAccount]:
    aside.seek(0)
    for line in aside:
        values = json.loads(line)
        values["roles"] = frozenset(values["roles"])
        values["identities"] = tuple((provider, value) for provider, value in values["identities"])
        yield NewAccount(**values)


def _name_taken(row: Row, new: NewAccount, names: dict[tuple[str, str], int], taken: Taken) -> Iterator[Problem]:
    former = names.setdefault((new.contact_center, fold(new.user_name)), row.line)
    if former != row.line:
        yield Problem(row.line, "user_name", f"{new.user_name!r} is on line {former} too")
    elif (new.contact_center, fold(new.user_name)) in taken.names:
        yield Problem(row.line, "user_name", f"{new.contact_center} has {new.user_name!r} already")


def _identities_taken(
    row: Row, new: NewAccount, linked: dict[tuple[str, str, str], int], taken: Taken
) -> Iterator[Problem]:
    for provider, value in new.identities:
        key = (new.contact_center, provider, value)
        if linked.get(key) == row.line:
            yield Problem(row.line, "identities", f"{provider}={value} stands there twice")
            continue
        former = linked.setdefault(key, row.line)
        if former != row.line:
            yield Problem(row.line, "identities", f"{provider}={value} is on line {former} too")
        elif key in taken.identities:
            yield Problem(row.line, "identities", f"{provider}={value} is linked already")


def _new(row: Row, hash_password: Callable[[str], str] | None) -> tuple[NewAccount, list[Problem]]:
    """Return the account that a row describes, and what is wrong with it."""
    found: list[tuple[str, str]] = [
        (shown(name), "is no field; there are " + ", ".join(FIELDS)) for name in row.values if name not in FIELDS
    ]
    texts: dict[str, str] = {}
    for name in TEXTS:
        value = row.values.get(name)
        if not isinstance(value, (str, type(None))):
            found.append((name, "must be text"))
        texts[name] = value if isinstance(value, str) else ""
    password, stored = texts.pop("password"), texts.pop("password_hash") or None
    if password and stored:
        found.append(("password", "stands beside a password_hash: keep one of the two"))
    elif password:
        problem = rows.password_problem(password)
        found += [("password", problem)] if problem else []
        stored = hash_password(password) if hash_password and not problem else None
    enabled = _enabled(row.values.get("enabled"))
    roles = _roles(row.values.get("roles"))
    identities = _identities(row.values.get("identities"))
    found += [(name, value) for name, value in (("enabled", enabled), ("roles", roles)) if isinstance(value, str)]
    if isinstance(identities, str):
        found.append(("identities", identities))
    new = NewAccount(
        **texts,
        roles=frozenset() if isinstance(roles, str) else roles,
        enabled=enabled is True,
        password_hash=stored,
        identities=() if isinstance(identities, str) else identities,
    )
    if not row.readable:
        return new, [*row.problems]
    told = {name for name, _ in found}
    found += [(name, finding) for name, finding in rows.problems(new) if name not in told]
    return new, [*row.problems, *(Problem(row.line, name, finding) for name, finding in found)]


def _enabled(value: object) -> bool | str:
    if isinstance(value, str):
        value = _TRUTH.get(value.strip().lower(), value)
    if value is None:
        return True
    return value if isinstance(value, bool) else "must be true or false"


def _roles(value: object) -> frozenset[str] | str:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        return "must be an array of texts"
    return frozenset(value)


def _identities(value: object) -> tuple[tuple[str, str], ...] | str:
    if isinstance(value, str):
        pairs = [part.strip().partition("=") for part in value.split(";") if part.strip()]
        if not all(separator for _, separator, _ in pairs):
            return "must be PROVIDER=VALUE, separated by semicolons"
        return tuple((provider, linked) for provider, _, linked in pairs)
    if value is None:
        return ()
    if not isinstance(value, dict):
        return "must be an object: provider to value, or to an array of values"
    flat = [(provider, one) for provider, many in value.items() for one in (many if isinstance(many, list) else [many])]
    if not all(isinstance(one, str) for _, one in flat):
        return "must be an object: provider to value, or to an array of values"
    return tuple(flat)
