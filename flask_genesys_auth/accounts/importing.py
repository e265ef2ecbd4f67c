"""Accounts out of a JSON or CSV file: every row is checked, and every finding named, before any is written."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chain.decision import Identity
from ..config.names import fold
from . import rows
from .models import AccountError, NewAccount

if TYPE_CHECKING:
    from .store import SqlAccounts

TEXTS = ("contact_center", "user_name", "first_name", "last_name", "password", "password_hash")
FIELDS = (*TEXTS, "roles", "enabled", "identities")
_TRUTH = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row; never holds a password or a hash."""

    line: int
    field: str
    finding: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.finding}"


class ImportRefused(AccountError):
    """Nothing was written: some rows are wrong.

    :param problems: all that were found, in the file's order.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Row:
    """One row as it stands in the file.

    :param problems: what was wrong with its form already.
    :param readable: whether ``values`` are worth a look; else its form is all that can be told.
    """

    line: int
    values: Mapping[str, Any] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    readable: bool = True


def _unreadable(line: int, place: str, finding: str) -> _Row:
    return _Row(line, {}, (Problem(line, place, finding),), readable=False)


def import_file(
    path: Path, store: SqlAccounts, contact_centers: Mapping[str, object], hash_password: Callable[[str], str]
) -> int:
    """Make the accounts of a file, all in one transaction, and return how many there were.

    Fields: ``contact_center``, ``user_name``, and if wanted ``first_name``, ``last_name``, ``roles``, ``enabled``,
    ``password`` or ``password_hash`` (argon2id in PHC form), ``identities``. In CSV (UTF-8, a header line) roles and
    ``PROVIDER=VALUE`` identities are separated by semicolons; in JSON (an array of objects) they are an array and an
    object of texts or arrays of texts.

    :param path: ends in ``.json`` or ``.csv``.
    :raises ImportRefused: if a row is wrong; names all that are.
    :raises AccountsUnavailable: if the database does not answer.
    """
    _check(path, store, contact_centers)
    new = [_new(row, hash_password)[0] for row in _read(path)]
    return len(store.import_rows(new))


def _check(path: Path, store: SqlAccounts, contact_centers: Mapping[str, object]) -> None:
    """Go through the whole file and keep nothing of it but what must be unique."""
    found: list[Problem] = []
    names: dict[tuple[str, str], int] = {}
    linked: dict[tuple[str, str, str], int] = {}
    for row in _read(path):
        new, problems = _new(row, None)
        found += problems
        wrong = {problem.field for problem in problems}
        if not row.readable or "contact_center" in wrong:
            continue
        if new.contact_center not in contact_centers:
            found.append(Problem(row.line, "contact_center", f"{new.contact_center!r} is not configured"))
        if "user_name" not in wrong:
            found += _name_taken(row, new, names, store)
        if "identities" not in wrong:
            found += _identities_taken(row, new, linked, store)
    if found:
        raise ImportRefused(*found)


def _name_taken(row: _Row, new: NewAccount, names: dict[tuple[str, str], int], store: SqlAccounts) -> Iterator[Problem]:
    former = names.setdefault((new.contact_center, fold(new.user_name)), row.line)
    if former != row.line:
        yield Problem(row.line, "user_name", f"{new.user_name!r} is on line {former} too")
    elif store.get_by_name(new.contact_center, new.user_name) is not None:
        yield Problem(row.line, "user_name", f"{new.contact_center} has {new.user_name!r} already")


def _identities_taken(
    row: _Row, new: NewAccount, linked: dict[tuple[str, str, str], int], store: SqlAccounts
) -> Iterator[Problem]:
    for provider, value in new.identities:
        key = (new.contact_center, provider, value)
        if linked.get(key) == row.line:
            yield Problem(row.line, "identities", f"{provider}={value} stands there twice")
            continue
        former = linked.setdefault(key, row.line)
        sought = Identity("import", new.contact_center, value, matched_by="identity", provider=provider)
        if former != row.line:
            yield Problem(row.line, "identities", f"{provider}={value} is on line {former} too")
        elif store.find(sought) is not None:
            yield Problem(row.line, "identities", f"{provider}={value} is linked already")


def _new(row: _Row, hash_password: Callable[[str], str] | None) -> tuple[NewAccount, list[Problem]]:
    """Return the account that a row describes, and what is wrong with it."""
    found: list[tuple[str, str]] = [
        (_shown(name), "is no field; there are " + ", ".join(FIELDS)) for name in row.values if name not in FIELDS
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


def _shown(name: str) -> str:
    """Return a field's name so that any terminal can show it."""
    return name if name.isprintable() and name else repr(name)


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


def _read(path: Path) -> Iterator[_Row]:
    kind = {".json": _read_json, ".csv": _read_csv}.get(path.suffix.lower())
    if kind is None:
        raise AccountError(f"{path.name}: the name must end in .json or .csv")
    if path.exists() and not path.is_file():
        raise AccountError(f"{path.name}: is no regular file; it is read twice")
    try:
        yield from kind(path)
    except UnicodeDecodeError:
        raise AccountError(f"{path.name}: is not UTF-8") from None
    except OSError as error:
        raise AccountError(f"{path.name}: {error.strerror}") from None


def _read_csv(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_header(reader.fieldnames or ())
            for values in reader:
                if None in values or None in values.values():
                    yield _unreadable(reader.line_num, "row", "has more or fewer values than the header has columns")
                else:
                    yield _Row(reader.line_num, values)
        except csv.Error as error:
            # The line that was begun: DictReader counts none that it cannot read.
            yield _unreadable(reader.reader.line_num, "row", f"is no CSV: {error}")


def _check_header(columns: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in FIELDS]
    if unknown or not columns:
        listed = ", ".join(map(repr, unknown)) or "nothing"
        raise ImportRefused(Problem(1, "header", f"has {listed}; the columns are " + ", ".join(FIELDS)))
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ImportRefused(Problem(1, "header", f"has {', '.join(map(repr, twice))} more than once"))


def _read_json(path: Path) -> Iterator[_Row]:
    """Yield the elements of the array one by one, so that each can be named by the line where it begins."""
    text = path.read_text(encoding="utf-8-sig")
    repeated: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: _object(pairs, repeated))
    place = _after_space(text, 0)
    if text[place : place + 1] != "[":
        raise ImportRefused(Problem(1, "file", "must be an array of objects"))
    place = _after_space(text, place + 1)
    line, counted, first = 1, 0, True
    while text[place : place + 1] != "]":
        if not first:
            if text[place : place + 1] != ",":
                yield _unreadable(line, "file", "is no JSON: a comma or a closing bracket is missing")
                return
            place = _after_space(text, place + 1)
        line, counted, first = line + text.count("\n", counted, place), place, False
        repeated.clear()
        try:
            values, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            # ValueError alone: a number of thousands of digits.
            yield _unreadable(line, "file", f"is no JSON: {getattr(error, 'msg', 'too deep, or a number is too long')}")
            return
        if isinstance(values, dict):
            yield _Row(line, values, tuple(Problem(line, _shown(name), "stands there twice") for name in repeated))
        else:
            yield _unreadable(line, "row", "must be an object")
        place = _after_space(text, end)
    if text[place + 1 :].strip():
        yield _unreadable(line, "file", "goes on after the array")


def _object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Make an object of its pairs, and note each key that would have hidden another one."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            repeated.append(name)
        made[name] = value
    return made


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place
