"""Imports accounts from a JSON or CSV file: checks every row and reports every problem before it writes any."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.names import fold
from .models import AccountError, NewAccount, Taken, password_problem

if TYPE_CHECKING:
    from .store import SqlAccounts

TEXTS = ("contact_center", "user_name", "first_name", "last_name", "password", "password_hash")
FIELDS = (*TEXTS, "roles", "enabled", "identities")
_TRUTH = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FIRST = re.compile(r"\s*\[\s*(\]\s*)?")
_NEXT = re.compile(r"\s*([,\]])\s*")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of one row; never holds a password or a hash."""

    line: int
    field: str
    finding: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.finding}"


class ImportRefused(AccountError):
    """Some rows are wrong, and nothing was written.

    :param problems: all problems, in the file's order.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the file.

    :param account: without the hash of ``password``; ``None`` if the row cannot be read.
    """

    line: int
    account: NewAccount | None
    password: str = field(default="", repr=False)
    problems: tuple[Problem, ...] = ()


def import_file(
    path: Path,
    store: SqlAccounts,
    contact_centers: Mapping[str, object],
    hash_password: Callable[[str], str],
    *,
    progress: Callable[[int, int], object] = lambda _, __: None,
) -> int:
    """Create the accounts of a file in one transaction, and return their number.

    Fields: ``contact_center``, ``user_name``, and optionally ``first_name``, ``last_name``, ``roles``, ``enabled``,
    ``password`` or ``password_hash`` (argon2id in PHC form), ``identities``. In CSV (UTF-8, a header line), roles and
    ``PROVIDER=VALUE`` identities are separated by semicolons. In JSON (an array of objects), they are an array and an
    object of texts or arrays of texts.

    All rows are checked first. Their passwords are hashed next, which may take long, before the transaction begins.

    :param path: ends in ``.json`` or ``.csv``.
    :param progress: called with the number of hashed rows and of all rows.
    :raises ImportRefused: if a row is wrong; names every problem.
    :raises AccountsUnavailable: if the database does not answer.
    """
    checked = check_file(path, store, contact_centers)
    accounts = []
    for place, (account, password) in enumerate(checked, start=1):
        accounts.append(replace(account, password_hash=hash_password(password)) if password else account)
        progress(place, len(checked))
    store.import_rows(accounts)
    return len(accounts)


def check_file(path: Path, store: SqlAccounts, contact_centers: Mapping[str, object]) -> list[tuple[NewAccount, str]]:
    """Check all rows; return the accounts to create, each with its clear password, if any.

    :raises ImportRefused: if a row is wrong; names every problem.
    :raises AccountsUnavailable: if the database does not answer.
    """
    entries = [*read_file(path)]
    taken = store.taken([entry.account for entry in entries if entry.account])
    found: list[Problem] = []
    names: dict[tuple[str, str], int] = {}
    linked: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        found += entry.problems
        wrong = {problem.field for problem in entry.problems}
        new = entry.account
        if new is None or "contact_center" in wrong:
            continue
        if new.contact_center not in contact_centers:
            found.append(Problem(entry.line, "contact_center", f"{new.contact_center!r} is not configured"))
        if "user_name" not in wrong:
            found += _name_taken(entry.line, new, names, taken)
        if "identities" not in wrong:
            found += _identities_taken(entry.line, new, linked, taken)
    if found:
        raise ImportRefused(*found)
    return [(entry.account, entry.password) for entry in entries if entry.account]


def _name_taken(line: int, new: NewAccount, names: dict[tuple[str, str], int], taken: Taken) -> Iterator[Problem]:
    key = (new.contact_center, fold(new.user_name))
    if key in names:
        yield Problem(line, "user_name", f"{new.user_name!r} is on line {names[key]} as well")
    elif key in taken.names:
        yield Problem(line, "user_name", f"{new.contact_center} already has {new.user_name!r}")
    names.setdefault(key, line)


def _identities_taken(
    line: int, new: NewAccount, linked: dict[tuple[str, str, str], int], taken: Taken
) -> Iterator[Problem]:
    own = set()
    for provider, value in new.identities:
        key = (new.contact_center, provider, value)
        if key in own:
            yield Problem(line, "identities", f"{provider}={value} is repeated")
        elif key in linked:
            yield Problem(line, "identities", f"{provider}={value} is on line {linked[key]} as well")
        elif key in taken.identities:
            yield Problem(line, "identities", f"{provider}={value} is already linked to an account")
        own.add(key)
    for key in own:
        linked.setdefault(key, line)


def read_file(path: Path) -> Iterator[Entry]:
    """Yield the rows of a file.

    :param path: ends in ``.json`` or ``.csv``.
    :raises AccountError: if the file cannot be read at all.
    """
    kind = {".json": _read_json, ".csv": _read_csv}.get(path.suffix.lower())
    if kind is None:
        raise AccountError(f"{path.name}: the name must end in .json or .csv")
    try:
        yield from kind(path)
    except UnicodeDecodeError:
        raise AccountError(f"{path.name} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise AccountError(f"{path.name}: {error.strerror}") from None


def _read_csv(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_header(reader.fieldnames or ())
            for values in reader:
                if None in values or None in values.values():
                    yield _unreadable(reader.line_num, "row", "has more or fewer values than the header has columns")
                else:
                    yield _entry(reader.line_num, values)
        except csv.Error as error:
            # The line of the inner reader: DictReader does not count a line that it cannot read.
            yield _unreadable(reader.reader.line_num, "row", f"is not valid CSV: {error}")


def _check_header(columns: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in FIELDS]
    if unknown or not columns:
        finding = f"has unknown columns: {', '.join(map(repr, unknown))}" if unknown else "is empty"
        raise ImportRefused(Problem(1, "header", f"{finding}; the columns are {', '.join(FIELDS)}"))
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ImportRefused(Problem(1, "header", f"repeats {', '.join(map(repr, twice))}"))


def _read_json(path: Path) -> Iterator[Entry]:
    text = path.read_text("utf-8-sig")
    repeated: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: _object(pairs, repeated))
    separator = _FIRST.match(text)
    if separator is None:
        raise ImportRefused(Problem(1, "file", "must be an array of objects"))
    place, line = separator.end(), 1 + text.count("\n", 0, separator.end())
    more = separator[1] is None
    while more:
        repeated.clear()
        try:
            values, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            # A plain ValueError: a number of thousands of digits.
            detail = getattr(error, "msg", "nested too deep, or a number is too long")
            yield _unreadable(line, "file", f"is not valid JSON: {detail}")
            return
        if isinstance(values, dict):
            yield _entry(line, values, repeated)
        else:
            yield _unreadable(line, "row", "must be an object")
        separator = _NEXT.match(text, end)
        if separator is None:
            yield _unreadable(line, "file", "is not valid JSON: a comma or a closing bracket is missing")
            return
        line += text.count("\n", place, separator.end())
        place, more = separator.end(), separator[1] == ","
    if place < len(text):
        yield _unreadable(line, "file", "has text after the array")


def _object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Build an object from its pairs, and record repeated keys, which would hide one another."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            repeated.append(name)
        made[name] = value
    return made


def _unreadable(line: int, place: str, finding: str) -> Entry:
    return Entry(line, None, problems=(Problem(line, place, finding),))


def _entry(line: int, values: Mapping[str, Any], repeated: Sequence[str] = ()) -> Entry:
    """Return the account that a row describes, and the row's problems."""
    problems = [Problem(line, _shown(name), "is repeated") for name in repeated]
    found: list[tuple[str, str]] = [
        (_shown(name), f"is not a field; the fields are {', '.join(FIELDS)}") for name in values if name not in FIELDS
    ]
    texts: dict[str, str] = {}
    for name in TEXTS:
        value = values.get(name)
        if not isinstance(value, (str, type(None))):
            found.append((name, "must be text"))
        texts[name] = value if isinstance(value, str) else ""
    password, stored = texts.pop("password"), texts.pop("password_hash") or None
    if password and stored:
        found.append(("password", "must not be given with password_hash: remove one of the two"))
    elif password:
        problem = password_problem(password)
        found += [("password", problem)] if problem else []
    enabled = _enabled(values.get("enabled"))
    roles = _roles(values.get("roles"))
    identities = _identities(values.get("identities"))
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
    reported = {name for name, _ in found}
    found += [(name, finding) for name, finding in new.problems() if name not in reported]
    problems += [Problem(line, name, finding) for name, finding in found]
    return Entry(line, new, password, tuple(problems))


def _shown(name: str) -> str:
    """Return a field's name in a form that any terminal can show."""
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
