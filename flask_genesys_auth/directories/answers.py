"""Reads the JSON answers of servers: known fields strictly, other fields ignored."""

from __future__ import annotations

import json
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from ..chain.outcomes import Reason, Unavailable
from ..upstream import Answer, printable


def answer_schema(**known: fields.Field[Any]) -> Schema:
    """Return the schema of an answer with these fields; unknown fields are ignored."""
    return Schema.from_dict({**known})(unknown=EXCLUDE)


class Flag(fields.Boolean):
    """``true`` or ``false``; marshmallow's own field would also accept ``1`` and ``"true"``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class Identifier(fields.String):
    """An id, as a number or as text."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValidationError("is not an id")
        return str(value)


def required_text() -> fields.String:
    """Return a field for required text that is not empty."""
    return fields.String(required=True, validate=validate.Length(min=1))


def optional_text() -> fields.String:
    """Return a field for text that may be absent or null."""
    return fields.String(load_default=None, allow_none=True)


def read_answer(schema: Schema, answer: Answer) -> dict[str, Any] | Unavailable:
    """Return the fields of an answer in JSON (RFC 8259, UTF-8), or which fields are not valid."""
    try:
        found = json.loads(answer.body.decode(), parse_constant=_refuse)
        loaded: dict[str, Any] = schema.load(found)
    except ValidationError as error:
        wrong = ", ".join(sorted(map(str, error.messages_dict)))
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer has invalid fields: {wrong}")
    except (ValueError, RecursionError):
        kind = printable(answer.headers.get("Content-Type", "") or "no content type", 40)
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is not JSON ({kind})")
    return loaded


def known_text(**attributes: str | None) -> dict[str, str]:
    """Return the attributes that are not empty."""
    return {name: value for name, value in attributes.items() if value}


def _refuse(constant: str) -> None:
    raise ValueError(constant)
