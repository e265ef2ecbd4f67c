"""Applications and their log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.saml.application import make_app as make_desk
from tests.saml.conftest import key, other_key
from tests.servers import own_redis_server
from tests.web.conftest import make_app

__all__ = ["key", "make_app", "make_desk", "other_key", "own_redis_server"]


class Told(logging.Handler):
    """Keeps the records of our logger."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self, event: str = "") -> list[dict[str, Any]]:
        """The fields of all records, or of those of one event."""
        found = [vars(record)["genesys_auth"] for record in self.records]
        return [one for one in found if event in {"", one["event"]}]


@pytest.fixture
def told() -> Iterator[Told]:
    """What the log says, down to debug."""
    logger = logging.getLogger("flask_genesys_auth")
    handler, level = Told(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
