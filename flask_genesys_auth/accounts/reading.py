"""Reads the rows of a JSON or CSV file one by one, each with the line at which it stands; keeps none of them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .models import AccountError

if TYPE_CHECKING:
    from typing import TextIO

TEXTS = ("contact_center", "user_name", "first_name", "last_name", "password", "password_hash")
FIELDS = (*TEXTS, "roles", "enabled", "identities")
_CHUNK = 64 * 1024
_LONGEST_ROW = 1024 * 1024
"""Characters of one element of a JSON file: what is longer is no account."""
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
class Row:
    """One row as it stands in the file.

    :param problems: what was wrong with its form already.
    :param readable: whether ``values`` are worth a look; else its form is all that can be told.
    """

    line: int
    values: Mapping[str, Any] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    readable: bool = True


def _unreadable(line: int, place: str, finding: str) -> Row:
    return Row(line, {}, (Problem(line, place, finding),), readable=False)


def shown(name: str) -> str:
    """Return a field's name so that any terminal can show it."""
    return name if name.isprintable() and name else repr(name)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file.

    :param path: ends in ``.json`` or ``.csv``.
    :raises AccountError: if the file cannot be read at all.
    """
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


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_header(reader.fieldnames or ())
            for values in reader:
                if None in values or None in values.values():
                    yield _unreadable(reader.line_num, "row", "has more or fewer values than the header has columns")
                else:
                    yield Row(reader.line_num, values)
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


def _read_json(path: Path) -> Iterator[Row]:
    """Yield the elements of the array one by one, so that each can be named by the line where it begins."""
    repeated: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: _object(pairs, repeated))
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        if text.next() != "[":
            raise ImportRefused(Problem(1, "file", "must be an array of objects"))
        text.advance(1)
        line, first = 1, True
        while text.next() != "]":
            if not first:
                if text.next() != ",":
                    yield _unreadable(line, "file", "is no JSON: a comma or a closing bracket is missing")
                    return
                text.advance(1)
                text.next()
            line, first = text.line, False
            try:
                values = text.decode(decoder, repeated)
            except (ValueError, RecursionError) as error:
                # ValueError alone: a number of thousands of digits.
                said = getattr(error, "msg", "too deep, or a number is too long")
                yield _unreadable(line, "file", f"is no JSON: {said}")
                return
            if isinstance(values, dict):
                yield Row(line, values, tuple(Problem(line, shown(name), "stands there twice") for name in repeated))
            else:
                yield _unreadable(line, "row", "must be an object")
        text.advance(1)
        if text.next():
            yield _unreadable(line, "file", "goes on after the array")


class _Text:
    """A file's text, of which no more is kept than what is being read.

    :ivar line: of the place that is being read.
    """

    def __init__(self, file: TextIO) -> None:
        self.line = 1
        self._file = file
        self._text = ""
        self._place = 0
        self._ended = False

    def next(self) -> str:
        """Return the next character that is no white space, without going past it; nothing at the end."""
        while True:
            found = _SPACE.match(self._text, self._place)
            self.advance(found.end() - self._place if found else 0)
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._more()

    def advance(self, characters: int) -> None:
        """Go on by as many characters."""
        self.line += self._text.count("\n", self._place, self._place + characters)
        self._place += characters

    def decode(self, decoder: json.JSONDecoder, repeated: list[str]) -> Any:
        """Return the value that begins here, and go past it.

        :param repeated: is emptied before each attempt, for the decoder's hook fills it.
        :raises ValueError: if it is none, or longer than a row may be.
        :raises RecursionError: if it is too deep.
        """
        while True:
            repeated.clear()
            try:
                values, end = decoder.raw_decode(self._text, self._place)
                # A number at the end of what has been read may go on.
                if end < len(self._text) or self._ended:
                    self.advance(end - self._place)
                    return values
            except json.JSONDecodeError:
                if self._ended or len(self._text) - self._place > _LONGEST_ROW:
                    raise
            self._more()

    def _more(self) -> None:
        rest = self._text[self._place :]
        piece = self._file.read(max(_CHUNK, len(rest)))
        self._text, self._place, self._ended = rest + piece, 0, not piece


def _object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Make an object of its pairs, and note each key that would have hidden another one."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            repeated.append(name)
        made[name] = value
    return made
