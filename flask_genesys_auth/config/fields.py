"""Declares a table of the configuration: its keys, each with a field that validates it, a default and its help.

A field never coerces a value. Error messages quote numbers only, because any text may be a misplaced secret.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validates_schema

from .names import nearest
from .secrets import SecretSource
from .texts import ENGLISH, language_tag, translation

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        """Do nothing: only type checkers read the declaration, and Python 3.10 does not have it."""
        return lambda decorator: decorator


MAX_LENGTH = 1024
_LARGE = 10**9
"""Larger numbers are not quoted; Python refuses to convert integers of thousands of digits to text."""
_TEXT_FILE_OR_ENV = 'text, {file = "path"} or {env = "NAME"}'
_TYPES: tuple[tuple[Any, str], ...] = (
    ((int, float), "a number"),
    (str, "text"),
    (Mapping, "a table"),
    ((list, tuple, set, frozenset), "a list"),
    (type(None), "null"),
)
T = TypeVar("T")
V = TypeVar("V")


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one key.

    :param field: validates the value.
    :param help: the meaning of the key on the reference page, in Markdown.
    :param shown_default: the default in words, if it depends on something else.
    """

    field: Value
    help: str = ""
    shown_default: str = ""


def setting(
    field: Value,
    *,
    help: str = "",  # noqa: A002 - argparse and click use this name, too
    shown_default: str = "",
    **options: Any,
) -> Any:
    """Declare a key as a field of its table's dataclass.

    :param options: those of ``dataclasses.field``; without ``default`` and ``default_factory`` the key is required.
    """
    return dataclasses.field(metadata={"setting": Setting(field, help, shown_default)}, **options)


@dataclass_transform(field_specifiers=(setting, dataclasses.field), frozen_default=True)
def table(declared: type[T]) -> type[T]:
    """Make a frozen dataclass of a class that declares the keys of a table."""
    return dataclasses.dataclass(frozen=True, slots=True)(declared)


def settings_of(declared: type) -> dict[str, Setting]:
    """Return the keys of a table: single values first, then tables, then tables of tables, as in TOML."""
    known = {one.name: one.metadata["setting"] for one in dataclasses.fields(declared) if "setting" in one.metadata}
    ranks = {Section: 1, Names: 1, Tables: 2}
    return dict(sorted(known.items(), key=lambda item: ranks.get(type(item[1].field), 0)))


@cache
def schema_of(declared: type) -> Schema:
    """Return the schema of a table."""
    return Table.from_dict({key: one.field for key, one in settings_of(declared).items()}, name=declared.__name__)()


def table_at(declared: type, key: str) -> type:
    """Return the dataclass of the table, or tables, below a key.

    :raises TypeError: if the key has no table below it.
    """
    field = settings_of(declared)[key].field
    if not isinstance(field, TableValue):
        raise TypeError(f"{declared.__name__}.{key} is not a table")
    return field.declared


def default_of(declared: type, key: str) -> Any:
    """Return the default of a key, or ``dataclasses.MISSING`` if the key is required."""
    found = next(one for one in dataclasses.fields(declared) if one.name == key)
    return found.default if found.default_factory is dataclasses.MISSING else found.default_factory()


def value_of(declared: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass of a table whose values are valid."""
    known = settings_of(declared)
    return declared(**{key: known[key].field.to_value(one) if key in known else one for key, one in values.items()})


def type_in_words(value: object) -> str:
    """Return the type of a value in words."""
    if isinstance(value, bool):
        return "true or false"
    for kind, words in _TYPES:
        if isinstance(value, kind):
            return words
    return f"a {type(value).__name__}"


def _shown(value: object) -> str:
    """Return a number of usual size, or the type of any other value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) >= _LARGE:
        return str(value)
    return type_in_words(value)


def _wrong_type(value: object, expected: str) -> ValidationError:
    hint = ": put it in quotes" if type_in_words(value) == "a number" else ""
    return ValidationError(f"must be {expected}, not {type_in_words(value)}{hint}")


def plain_text(value: object) -> str:
    """Return text without control characters and without white space around it.

    :raises ValidationError: if the value is anything else; a number is not coerced.
    """
    if not isinstance(value, str):
        raise _wrong_type(value, "text")
    if len(value) > MAX_LENGTH:
        raise ValidationError(f"must be at most {MAX_LENGTH} characters, not {len(value)}")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValidationError("must not contain control characters")
    if value != value.strip():
        raise ValidationError("must not begin or end with white space")
    return value


def required_text(value: object, parse: Callable[[str], T]) -> T:
    """Return the parsed text, which must not be empty."""
    text = plain_text(value)
    if not text:
        raise ValidationError("must not be empty")
    return parse(text)


def _read_entries(
    entries: Iterable[tuple[Any, Any]],
    read: Callable[[Any, Any], None],
    valid: dict[str, Any] | list[Any] | None = None,
) -> None:
    """Read every entry, given as a key and a value.

    :param valid: what ``read`` collects, to be validated further in spite of errors.
    :raises ValidationError: with the errors of all entries, by their keys, and with the valid ones.
    """
    errors = {key: messages for key, entry in entries if (messages := _messages_of(read, key, entry))}
    if errors:
        raise ValidationError(errors, valid_data=valid)


def _messages_of(read: Callable[[Any, Any], None], key: object, entry: object) -> object:
    try:
        read(key, entry)
    except ValidationError as error:
        return error.messages
    return None


def _numbered(entries: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the place of each entry, as a key, and the entry."""
    return ((str(place), entry) for place, entry in enumerate(entries))


class Value(fields.Raw):
    """The base of the fields. An absent key has its default; null is an error.

    :param kind: the type of the value in words, for the reference page.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(error_messages={"null": "must not be null: remove the key to use the default"})
        self.kind = kind

    def to_value(self, value: Any) -> Any:
        """Return what the dataclass holds for a valid value."""
        return value


class Text(Value):
    """Text; empty text means the default, unless ``nonempty``.

    :param parse: turns the text into the value, raising ``ValidationError``.
    """

    def __init__(self, parse: Callable[[str], Any] = str, *, nonempty: bool = False, kind: str = "text") -> None:
        super().__init__(kind)
        self._parse = parse
        self._nonempty = nonempty

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> Any:
        return "" if value == "" and not self._nonempty else required_text(value, self._parse)


class Location(Text):
    """A path, as text or (from Python) as a path object."""

    def __init__(self, parse: Callable[[str], Any], *, kind: str = "path") -> None:
        super().__init__(parse, nonempty=True, kind=kind)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> Any:
        return super()._deserialize(_path_text(value), attr, data, **kwargs)


def _path_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


class Listing(Value):
    """A list of texts.

    :param parse: turns one text into its value, raising ``ValidationError``.
    :param collection: the collection in the dataclass.
    """

    def __init__(
        self, parse: Callable[[str], Any] = str, *, collection: type[tuple[Any, ...]] | type[frozenset[Any]] = tuple
    ) -> None:
        super().__init__("list")
        self._parse = parse
        self._collection = collection

    def to_value(self, value: Any) -> Any:
        """Return the values in their collection."""
        return self._collection(value)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValidationError(f'must be a list such as ["..."], not {type_in_words(value)}')
        found: list[Any] = []
        _read_entries(_numbered(value), lambda _, entry: found.append(required_text(entry, self._parse)))
        return tuple(found)


class TextMap(Value):
    """A table from any text to text.

    :param parse: turns the text of a value into the value, raising ``ValidationError``.
    """

    def __init__(self, parse: Callable[[str], Any] = str) -> None:
        super().__init__("table")
        self._parse = parse

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, Any]:
        return _read_map(value, plain_text, lambda _, entry: required_text(entry, self._parse))


class Translations(Value):
    """A table for each language, by its tag, from names of texts to texts."""

    def __init__(self) -> None:
        super().__init__("table of tables")

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, dict[str, str]]:
        return _read_map(value, lambda tag: language_tag(plain_text(tag)), lambda _, texts: _translated(texts))


def _translated(texts: object) -> dict[str, str]:
    return _read_map(texts, _text_name, lambda name, text: translation(name, required_text(text, str)))


def _text_name(key: object) -> str:
    name = plain_text(key)
    # Environment variables are in upper case.
    name = name.lower() if name.isupper() else name
    if name not in ENGLISH:
        raise ValidationError(_unknown("text", name, ENGLISH))
    return name


def _unknown(what: str, key: object, known: Iterable[str]) -> str:
    near = nearest(key, known) if isinstance(key, str) else ""
    return f"is not a known {what}{near or ': remove it'}"


def _read_map(table: object, read_key: Callable[[object], str], read_value: Callable[[str, object], V]) -> dict[str, V]:
    """Read a table whose keys are not declared."""
    if not isinstance(table, Mapping):
        raise ValidationError(f"must be a table, not {type_in_words(table)}")
    found: dict[str, V] = {}

    def read(key: object, value: object) -> None:
        name = read_key(key)
        if name in found:
            raise ValidationError("is set twice: remove one of the two")
        found[name] = read_value(name, value)

    _read_entries(table.items(), read, found)
    return found


class Flag(Value):
    """True or false."""

    def __init__(self) -> None:
        super().__init__("true or false")

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"must be true or false in lower case without quotes, not {_shown(value)}")
        return value


class Choice(Value):
    """One of a few values."""

    def __init__(self, *choices: str | int) -> None:
        super().__init__(", ".join(f"`{json.dumps(choice)}`" for choice in choices))
        self._choices = choices

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> str | int:
        for choice in self._choices:
            if type(value) is type(choice) and value == choice:
                return choice
        listed = [json.dumps(choice) for choice in self._choices]
        other = "" if isinstance(value, type(self._choices[0])) and isinstance(value, str) else f", not {_shown(value)}"
        raise ValidationError(f"must be {', '.join(listed[:-1])} or {listed[-1]}{other}")


class Whole(Value):
    """A whole number within bounds, both included.

    :param unit: such as ``"seconds"``.
    """

    def __init__(self, least: int, most: int, *, unit: str = "whole number") -> None:
        super().__init__(f"{unit}, {least} to {most}")
        self._least = least
        self._most = most

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"must be a whole number without quotes, not {_shown(value)}")
        if not self._least <= value <= self._most:
            raise ValidationError(f"must be from {self._least} to {self._most}, not {_shown(value)}")
        return value


class Seconds(Value):
    """A number of seconds, whole or not.

    :param zero: whether 0 is allowed.
    """

    def __init__(self, most: int, *, zero: bool = False) -> None:
        super().__init__(f"seconds, {'0' if zero else 'above 0'} to {most}")
        self._most = most
        self._zero = zero

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValidationError(f"must be a number of seconds without quotes, not {type_in_words(value)}")
        if not 0 <= value <= self._most or (value == 0 and not self._zero):  # NaN is never within bounds
            bounds = f"from 0 to {self._most}" if self._zero else f"above 0 and at most {self._most}"
            raise ValidationError(f"must be {bounds} seconds, not {_shown(value)}")
        return float(value)


class SecretField(Value):
    """Text, ``{file = "path"}`` or ``{env = "NAME"}``; the secret is read later."""

    def __init__(self) -> None:
        super().__init__("secret")

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> SecretSource:
        if isinstance(value, str):
            return SecretSource("text", value)
        if not isinstance(value, Mapping):
            raise _wrong_type(value, _TEXT_FILE_OR_ENV)
        entries = list(value.items())
        if len(entries) != 1 or entries[0][0] not in {"file", "env", "FILE", "ENV"}:
            # A key may be a misplaced secret, so it is not quoted.
            raise ValidationError(f"must be {_TEXT_FILE_OR_ENV}: the table must have exactly one of these keys")
        key, place = entries[0]
        text = required_text(_path_text(place), str)
        return SecretSource("file", text) if key.lower() == "file" else SecretSource("env", text)


class TableValue(Value):
    """The base of the fields that hold tables.

    :param declared: the dataclass of each table.
    """

    def __init__(self, kind: str, declared: type) -> None:
        super().__init__(kind)
        self.declared = declared
        self._schema = schema_of(declared)

    def load_into(self, values: dict[str, Any], given: Any) -> None:
        """Put the valid values of a table into a dictionary, even if other values are not valid.

        :raises ValidationError: if any value is not valid.
        """
        try:
            values.update(self._schema.load(given))
        except ValidationError as error:
            values.update(error.valid_data if isinstance(error.valid_data, Mapping) else {})
            raise


class Section(TableValue):
    """One table below another."""

    def __init__(self, declared: type) -> None:
        super().__init__("table", declared)

    def _deserialize(self, value: Any, attr: str | None, data: object, **kwargs: Any) -> Any:
        return self._schema.load(value)

    def to_value(self, value: Any) -> Any:
        """Return the dataclass."""
        return value_of(self.declared, value)


class Names(Section):
    """A table of texts that becomes a mapping without the empty ones."""

    def to_value(self, value: Any) -> Any:
        """Return the mapping."""
        return {ours: theirs for ours, theirs in value.items() if theirs}


class Tables(TableValue):
    """A table of tables, by names that can stand in a URL.

    :param declared: the dataclass of each table; it has a field ``name``, too.
    :param check_name: raises ``ValidationError`` if a name is not valid.
    """

    def __init__(self, declared: type, check_name: Callable[[str], object]) -> None:
        super().__init__("table of tables", declared)
        self._check_name = check_name

    def to_value(self, value: Any) -> Any:
        """Return the dataclasses by name."""
        return {name: value_of(self.declared, {**one, "name": name}) for name, one in value.items()}

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValidationError(f"must be a table of tables, not {type_in_words(value)}")
        tables: dict[str, Any] = {}

        def read(name: object, table: Any) -> None:
            try:
                self._check_name(plain_text(name))
            except ValidationError as error:
                raise ValidationError([f"this name {message}" for message in error.messages]) from None
            self.load_into(tables.setdefault(str(name), {}), table)

        _read_entries(value.items(), read, tables)
        return tables


class TableList(TableValue):
    """A list of tables.

    :param declared: the dataclass of each table.
    """

    def __init__(self, declared: type) -> None:
        super().__init__("list of tables", declared)

    def to_value(self, value: Any) -> Any:
        """Return the dataclasses in their order."""
        return tuple(value_of(self.declared, one) for one in value)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> list[dict[str, Any]]:
        if not isinstance(value, (list, tuple)):
            raise ValidationError(f"must be a list of tables, not {type_in_words(value)}")
        tables: list[dict[str, Any]] = []

        def read(_: object, table: Any) -> None:
            tables.append({})
            self.load_into(tables[-1], table)

        _read_entries(_numbered(value), read, tables)
        return tables


class Table(Schema):
    """The base of the schemas: unknown keys are errors, and the upper-case twin of a known key counts as that key."""

    class Meta:
        """:meth:`check_keys` refuses unknown keys, because it names the nearest known one."""

        unknown = EXCLUDE

    def __init__(self) -> None:
        super().__init__()
        self.error_messages["type"] = "must be a table"

    @pre_load
    def lower_keys(self, data: object, **kwargs: object) -> object:
        """Rename ``PUBLIC_URL``, as environment variables spell it, to ``public_url``.

        The names of tables below such a key are lowered as well: ``ACME`` becomes ``acme``.
        """
        if not isinstance(data, Mapping):
            return data
        lowered = {}
        for key, value in data.items():
            known = self._known(key)
            if known is None or (known != key and known in data):
                continue
            below = known != key and isinstance(self.fields[known], Tables)
            lowered[known] = _lowered_names(value) if below else value
        return lowered

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_keys(self, data: object, original: object, **kwargs: object) -> None:
        """Refuse unknown keys and keys that are set twice."""
        if not isinstance(original, Mapping):
            return
        errors = {}
        for key in original:
            known = self._known(key)
            if known is None:
                errors[key] = [_unknown("key", key, self.fields)]
            elif known != key and known in original:
                errors[known] = [f"is set twice, as {known} and as {key}: remove one of the two"]
        if errors:
            raise ValidationError(errors)

    def _known(self, key: object) -> str | None:
        if not isinstance(key, str):
            return None
        lowered = key.lower()
        return lowered if lowered in self.fields and key in {lowered, lowered.upper()} else None


def _lowered_names(tables: object) -> object:
    if not isinstance(tables, Mapping):
        return tables
    return {
        key.lower() if isinstance(key, str) and key.isupper() and key.lower() not in tables else key: value
        for key, value in tables.items()
    }
