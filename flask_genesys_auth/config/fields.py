"""Fields of the configuration's schemas: strict, never a coercion, and no finding ever quotes a value."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from marshmallow import Schema, ValidationError, fields

from .problems import nearest
from .secrets import SecretSource
from .texts import ENGLISH, language_tag, translation

LONGEST = 1024
V = TypeVar("V")


def kind(value: object) -> str:
    """Return what a value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number (in quotes it is text)"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "a list"
    return f"a {type(value).__name__}"


def plain_text(value: object) -> str:
    """Return text without control characters and without white space around it.

    :raises ValidationError: if it is anything else; a number is not coerced.
    """
    if not isinstance(value, str):
        raise ValidationError(f"must be text, not {kind(value)}")
    if len(value) > LONGEST:
        raise ValidationError(f"must be at most {LONGEST} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValidationError("must not contain control characters")
    if value != value.strip():
        raise ValidationError("must not have white space around it")
    return value


class Strict(fields.Raw):
    """The base of all: absent is the default, null is an error."""

    def __init__(self) -> None:
        super().__init__(error_messages={"null": "must not be null: leave it out for the default"})


class Text(Strict):
    """Text; empty text stands for the default unless ``needed``.

    :param parse: turns the text into the value, raising ``ValidationError``.
    """

    def __init__(self, parse: Callable[[str], Any] = str, *, needed: bool = False) -> None:
        super().__init__()
        self._parse = parse
        self._needed = needed

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> Any:
        text = plain_text(value)
        if text:
            return self._parse(text)
        if self._needed:
            raise ValidationError("must not be empty")
        return ""


class Location(Text):
    """A path, as text or (from Python) as a path object."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        super().__init__(parse, needed=True)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> Any:
        return super()._deserialize(_path_text(value), attr, data, **kwargs)


def _path_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


class Listing(Strict):
    """A list of texts.

    :param parse: turns one text into its value, raising ``ValidationError``.
    """

    def __init__(self, parse: Callable[[str], Any] = str) -> None:
        super().__init__()
        self._parse = parse

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValidationError(f'must be a list such as ["..."], not {kind(value)}')
        entries: list[Any] = []
        errors: dict[str, Any] = {}
        for place, entry in enumerate(value):
            finding = self._take(entry, entries)
            if finding:
                errors[str(place)] = finding
        if errors:
            raise ValidationError(errors)
        return tuple(entries)

    def _take(self, entry: object, entries: list[Any]) -> object:
        try:
            text = plain_text(entry)
            if not text:
                return ["must not be empty"]
            entries.append(self._parse(text))
        except ValidationError as error:
            return error.messages
        return None


class TextMap(Strict):
    """A table from any text to text.

    :param parse: turns one of its values into what is kept, raising ``ValidationError``.
    """

    def __init__(self, parse: Callable[[str], Any] = str) -> None:
        super().__init__()
        self._value = Text(parse, needed=True)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, Any]:
        return _collected(value, plain_text, lambda _, entry: self._value.deserialize(entry))


class Translations(Strict):
    """A table for each language, by its tag, from names of texts to texts."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, dict[str, str]]:
        return _collected(value, lambda key: language_tag(plain_text(key)), lambda _, table: _texts(table))


def _texts(table: object) -> dict[str, str]:
    words = Text(needed=True)
    return _collected(table, _text_name, lambda name, text: translation(name, str(words.deserialize(text))))


def _text_name(key: object) -> str:
    name = plain_text(key)
    # In capitals, as environment variables make it.
    name = name.lower() if name.isupper() else name
    if name not in ENGLISH:
        raise ValidationError(f"is not a known text{nearest(name, ENGLISH)}")
    return name


def _collected(
    table: object, read_key: Callable[[object], str], read_value: Callable[[str, object], V]
) -> dict[str, V]:
    """Read a table of which no key is known beforehand, with every finding below its key."""
    if not isinstance(table, Mapping):
        raise ValidationError(f"must be a table, not {kind(table)}")
    found: dict[str, V] = {}
    errors: dict[Any, Any] = {}

    def take(key: object, value: object) -> None:
        try:
            name = read_key(key)
            if name in found:
                raise ValidationError("is given twice")
            found[name] = read_value(name, value)
        except ValidationError as error:
            errors[key] = error.messages

    for key, value in table.items():
        take(key, value)
    if errors:
        raise ValidationError(errors, valid_data=found)
    return found


class Flag(Strict):
    """True or false."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"must be true or false, not {kind(value)}")
        return value


class Choice(Strict):
    """One of a few values."""

    def __init__(self, *choices: str | int) -> None:
        super().__init__()
        self._choices = choices

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> str | int:
        for choice in self._choices:
            if type(value) is type(choice) and value == choice:
                return choice
        listed = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in self._choices]
        raise ValidationError(f"must be {', '.join(listed[:-1])} or {listed[-1]}")


class Whole(Strict):
    """A whole number within bounds, both included."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__()
        self._least = least
        self._most = most

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> int:
        if isinstance(value, float):
            raise ValidationError("must be a whole number: no fraction, no infinity, no NaN")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"must be a whole number, not {kind(value)}")
        if not self._least <= value <= self._most:
            raise ValidationError(f"must be from {self._least} to {self._most}")
        return value


class Seconds(Strict):
    """A number of seconds, whole or not.

    :param zero: whether 0 is allowed.
    """

    def __init__(self, most: int, *, zero: bool = False) -> None:
        super().__init__()
        self._most = most
        self._zero = zero

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValidationError(f"must be a number of seconds, not {kind(value)}")
        if value < 0 or (value == 0 and not self._zero):
            raise ValidationError("must not be negative" if self._zero else "must be greater than 0")
        if not value <= self._most:  # as NaN is not
            raise ValidationError(f"must be at most {self._most} seconds")
        return float(value)


class SecretField(Strict):
    """Text, ``{file = "path"}`` or ``{env = "NAME"}``; where it is, is kept, and read later."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> SecretSource:
        if isinstance(value, str):
            return SecretSource("text", value)
        if not isinstance(value, Mapping):
            raise ValidationError(f'must be text, {{file = "path"}} or {{env = "NAME"}}, not {kind(value)}')
        entries = list(value.items())
        if len(entries) != 1 or entries[0][0] not in {"file", "env", "FILE", "ENV"}:
            # A key may be a secret in the wrong place: none is quoted.
            raise ValidationError('must be text, {file = "path"} or {env = "NAME"}, with exactly one of the two')
        key, place = entries[0]
        text = plain_text(_path_text(place))
        if not text:
            raise ValidationError("must not name an empty place")
        return SecretSource("file", text) if key.lower() == "file" else SecretSource("env", text)


class Tables(Strict):
    """A table of tables, by names that can stand in an address.

    :param schema: of each table.
    :param check_name: raises ``ValidationError`` where a name cannot be taken.
    """

    def __init__(self, schema: Schema, check_name: Callable[[str], object]) -> None:
        super().__init__()
        self._schema = schema
        self._check_name = check_name

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValidationError(f"must be a table of tables, not {kind(value)}")
        tables: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, table in value.items():
            try:
                self._check_name(plain_text(name))
            except ValidationError as error:
                errors[name] = [f"this name {message}" for message in error.messages]
                continue
            try:
                tables[name] = self._schema.load(table)
            except ValidationError as error:
                errors[name] = error.messages
                tables[name] = error.valid_data
        if errors:
            raise ValidationError(errors, valid_data=tables)
        return tables


class TableList(Strict):
    """A list of tables.

    :param schema: of each table.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._schema = schema

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> list[dict[str, Any]]:
        if not isinstance(value, (list, tuple)):
            raise ValidationError(f"must be a list of tables, not {kind(value)}")
        tables: list[dict[str, Any]] = []
        errors: dict[str, Any] = {}
        for place, table in enumerate(value):
            finding = self._take(table, tables)
            if finding:
                errors[str(place)] = finding
        if errors:
            raise ValidationError(errors, valid_data=tables)
        return tables

    def _take(self, table: Any, tables: list[dict[str, Any]]) -> object:
        try:
            tables.append(self._schema.load(table))
        except ValidationError as error:
            tables.append(dict(error.valid_data) if isinstance(error.valid_data, Mapping) else {})
            return error.messages
        return None
