"""How a server's JSON is read: strictly what is asked for, whatever else it says."""

from __future__ import annotations

import json
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from ..chain.outcomes import Reason, Unavailable
from ..upstream import Answer, printable


class AnswerSchema(Schema):
    """The base of all answers: unknown fields are ignored, the known ones are of their type, never converted."""

    class Meta:
        """What marshmallow is to do with unknown fields."""

        unknown = EXCLUDE


class Flag(fields.Boolean):
    """``true`` or ``false``: neither ``1`` nor ``"true"``, which marshmallow's own field would take."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("is neither true nor false")
        return value


class Identifier(fields.String):
    """A stable id, written as a number or as text."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValidationError("is no id")
        return str(value)


def required_text() -> fields.String:
    """Return a field of text that must be there and not be empty."""
    return fields.String(required=True, validate=validate.Length(min=1))


def optional_text() -> fields.String:
    """Return a field of text that may be absent or null."""
    return fields.String(load_default=None, allow_none=True)


def read_answer(schema: Schema, answer: Answer) -> dict[str, Any] | Unavailable:
    """Return the fields of an answer in JSON (RFC 8259, UTF-8), or what makes it unreadable, naming fields only."""
    try:
        found = json.loads(answer.body.decode(), parse_constant=_refuse)
        loaded: dict[str, Any] = schema.load(found)
    except ValidationError as error:
        wrong = ", ".join(sorted(map(str, error.messages_dict)))
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer's fields are not as expected: {wrong}")
    except (ValueError, RecursionError):
        kind = printable(answer.headers.get("Content-Type", "") or "no content type", 40)
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is no JSON ({kind})")
    return loaded


def known_text(**attributes: str | None) -> dict[str, str]:
    """Return the attributes that say something."""
    return {name: value for name, value in attributes.items() if value}


def _refuse(constant: str) -> None:
    raise ValueError(constant)
