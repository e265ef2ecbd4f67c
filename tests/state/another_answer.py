"""A database connection that returns the answer to another statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state.sql import SqlState


@contextmanager
def listening(target: Any, name: str, listener: Callable[..., Any], **options: Any) -> Iterator[None]:
    """Listen to an event of SQLAlchemy meanwhile."""
    event.listen(target, name, listener, **options)
    try:
        yield
    finally:
        event.remove(target, name, listener)


@contextmanager
def answering(answers: dict[str, str]) -> Iterator[None]:
    """Let the database answer for the values instead of the keys of ``answers``."""

    def exchange(_: object, __: object, statement: str, parameters: Any, *___: object) -> tuple[str, Any]:
        if isinstance(parameters, dict):
            return statement, {name: answers.get(value, value) for name, value in parameters.items()}
        return statement, tuple(answers.get(value, value) for value in parameters)

    with listening(Engine, "before_cursor_execute", exchange, retval=True):
        yield


def check_another_answer(store: SqlState, operation: str) -> None:
    """See that an operation on one key is refused when the answer is of another one, and well when it is its own."""
    asked: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get("mine"),
        "get_many": lambda: store.get_many(["mine", "third"]),
        "find": lambda: store.find("term of mine"),
        "take": lambda: store.take("mine"),
        "replace": lambda: store.replace("mine", "new", 60),
        "add": lambda: store.add("free", "new", 60),
    }
    store.put("mine", "my value", 60, index=["term of mine"])
    store.put("other", "value of another", 60, index=["term of another"])
    store.put("third", "third value", 60)
    answers = {"mine": "other", "term of mine": "term of another", "free": "free of another"}
    with answering(answers), pytest.raises(StateUnavailable, match="answer to another statement"):
        asked[operation]()
    own: dict[str, Any] = {
        "get": "my value",
        "get_many": ["my value", "third value"],
        "find": ["mine"],
        "take": "my value",
        "replace": True,
        "add": True,
    }
    assert asked[operation]() == own[operation]
