"""Declares a table of the configuration: its keys, each with a field that validates it, a default and its help.

A field never coerces a value. Error messages quote numbers only, because any text may be a misplaced secret.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
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
    ranks = {Section: 1, Tables: 2}
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
    """The field of one key. An absent key has its default; null is an error.

    :param kind: the type of the value in words, for the reference page.
    :param read: returns the valid value, or raises ``ValidationError``.
    :param to_value: turns the valid value into the dataclass's value.
    """

    def __init__(
        self, kind: str, read: Callable[[Any], Any], to_value: Callable[[Any], Any] = lambda value: value
    ) -> None:
        super().__init__(error_messages={"null": "must not be null: remove the key to use the default"})
        self.kind = kind
        self.to_value = to_value
        self._read = read

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: Any) -> Any:
        return self._read(value)


def text(parse: Callable[[str], Any] = str, *, nonempty: bool = False, kind: str = "text") -> Value:
    """Return the field of a text; empty text means the default, unless ``nonempty``.

    :param parse: turns the text into the value, or raises ``ValidationError``.
    """
    return Value(kind, lambda value: "" if value == "" and not nonempty else required_text(value, parse))


def location(parse: Callable[[str], Any], *, kind: str = "path") -> Value:
    """Return the field of a path, as text or (from Python) as a path object."""
    return Value(kind, lambda value: required_text(_path_text(value), parse))


def _path_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def listing(
    parse: Callable[[str], Any] = str, *, collection: type[tuple[Any, ...]] | type[frozenset[Any]] = tuple
) -> Value:
    """Return the field of a list of texts.

    :param parse: turns one text into its value, or raises ``ValidationError``.
    :param collection: the collection in the dataclass.
    """

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValidationError(f'must be a list such as ["..."], not {type_in_words(value)}')
        found: list[Any] = []
        _read_entries(_numbered(value), lambda _, entry: found.append(required_text(entry, parse)))
        return tuple(found)

    return Value("list", read, collection)


def text_map(parse: Callable[[str], Any]) -> Value:
    """Return the field of a table from any text to text.

    :param parse: turns the text of a value into the value, or raises ``ValidationError``.
    """
    return Value("table", lambda table: _read_map(table, plain_text, lambda _, entry: required_text(entry, parse)))


def translations() -> Value:
    """Return the field of a table for each language, by its tag, from names of texts to texts."""

    def read(tables: object) -> dict[str, dict[str, str]]:
        return _read_map(tables, lambda tag: language_tag(plain_text(tag)), lambda _, texts: _translated(texts))

    return Value("table of tables", read)


def _translated(texts: object) -> dict[str, str]:
    return _read_map(texts, _text_name, lambda name, given: translation(name, required_text(given, str)))


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


def flag() -> Value:
    """Return the field of true or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"must be true or false in lower case without quotes, not {_shown(value)}")
        return value

    return Value("true or false", read)


def choice(*choices: str | int) -> Value:
    """Return the field of one of a few values."""
    listed = [json.dumps(one) for one in choices]

    def read(value: object) -> str | int:
        for one in choices:
            if type(value) is type(one) and value == one:
                return one
        other = "" if isinstance(value, str) and isinstance(choices[0], str) else f", not {_shown(value)}"
        raise ValidationError(f"must be {', '.join(listed[:-1])} or {listed[-1]}{other}")

    return Value(", ".join(f"`{one}`" for one in listed), read)


def whole(least: int, most: int, *, unit: str = "whole number") -> Value:
    """Return the field of a whole number within bounds, both included.

    :param unit: such as ``"seconds"``.
    """

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"must be a whole number without quotes, not {_shown(value)}")
        if not least <= value <= most:
            bounds = f"from {least} to {most}{'' if unit == 'whole number' else f' {unit}'}"
            raise ValidationError(f"must be {bounds}, not {_shown(value)}")
        return value

    return Value(f"{unit}, {least} to {most}", read)


def seconds(most: int, *, zero: bool = False) -> Value:
    """Return the field of a number of seconds, whole or not.

    :param zero: whether 0 is allowed.
    """
    bounds = f"from 0 to {most}" if zero else f"above 0 and at most {most}"

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValidationError(f"must be a number of seconds without quotes, not {type_in_words(value)}")
        if not 0 <= value <= most or (value == 0 and not zero):  # NaN is never within bounds
            raise ValidationError(f"must be {bounds} seconds, not {_shown(value)}")
        return float(value)

    return Value(f"seconds, {'0' if zero else 'above 0'} to {most}", read)


def secret() -> Value:
    """Return the field of text, ``{file = "path"}`` or ``{env = "NAME"}``; the secret is read later."""
    return Value("secret", _read_secret_source)


def _read_secret_source(value: object) -> SecretSource:
    if isinstance(value, str):
        return SecretSource("text", value)
    if not isinstance(value, Mapping):
        raise _wrong_type(value, _TEXT_FILE_OR_ENV)
    entries = list(value.items())
    if len(entries) != 1 or entries[0][0] not in {"file", "env", "FILE", "ENV"}:
        # A key may be a misplaced secret, so it is not quoted.
        raise ValidationError(f"must be {_TEXT_FILE_OR_ENV}: the table must have exactly one of these keys")
    key, place = entries[0]
    named = required_text(_path_text(place), str)
    return SecretSource("file", named) if key.lower() == "file" else SecretSource("env", named)


class TableValue(Value):
    """The field of a key that holds tables.

    :param declared: the dataclass of each table.
    """

    def __init__(self, kind: str, declared: type, read: Callable[[Any], Any], to_value: Callable[[Any], Any]) -> None:
        super().__init__(kind, read, to_value)
        self.declared = declared


class Section(TableValue):
    """The field of one table below another."""

    def __init__(self, declared: type, to_value: Callable[[Any], Any] | None = None) -> None:
        default = partial(value_of, declared)
        super().__init__("table", declared, schema_of(declared).load, to_value or default)


def names(declared: type) -> Section:
    """Return the field of a table of texts that becomes a mapping without the empty ones."""
    return Section(declared, lambda value: {ours: theirs for ours, theirs in value.items() if theirs})


class Tables(TableValue):
    """The field of a table of tables, by names that can stand in a URL.

    :param declared: the dataclass of each table; it has a field ``name``, too.
    :param check_name: raises ``ValidationError`` if a name is not valid.
    """

    def __init__(self, declared: type, check_name: Callable[[str], object]) -> None:
        def read(value: object) -> dict[str, Any]:
            if not isinstance(value, Mapping):
                raise ValidationError(f"must be a table of tables, not {type_in_words(value)}")
            tables: dict[str, Any] = {}

            def read_one(name: object, table: Any) -> None:
                try:
                    check_name(plain_text(name))
                except ValidationError as error:
                    raise ValidationError([f"this name {message}" for message in error.messages]) from None
                _load_into(tables.setdefault(str(name), {}), declared, table)

            _read_entries(value.items(), read_one, tables)
            return tables

        def to_value(value: dict[str, Any]) -> dict[str, Any]:
            return {name: value_of(declared, {**one, "name": name}) for name, one in value.items()}

        super().__init__("table of tables", declared, read, to_value)


def table_list(declared: type) -> TableValue:
    """Return the field of a list of tables.

    :param declared: the dataclass of each table.
    """

    def read(value: object) -> list[dict[str, Any]]:
        if not isinstance(value, (list, tuple)):
            raise ValidationError(f"must be a list of tables, not {type_in_words(value)}")
        tables: list[dict[str, Any]] = []

        def read_one(_: object, table: Any) -> None:
            tables.append({})
            _load_into(tables[-1], declared, table)

        _read_entries(_numbered(value), read_one, tables)
        return tables

    return TableValue("list of tables", declared, read, lambda value: tuple(value_of(declared, one) for one in value))


def _load_into(values: dict[str, Any], declared: type, given: Any) -> None:
    """Put the valid values of a table into a dictionary, even if other values are not valid.

    :raises ValidationError: if any value is not valid.
    """
    try:
        values.update(schema_of(declared).load(given))
    except ValidationError as error:
        values.update(error.valid_data if isinstance(error.valid_data, Mapping) else {})
        raise


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
