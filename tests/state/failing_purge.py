"""An automatic purge that fails: it fails no change and is not an outage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state.sql import PURGE_INTERVAL


def check_a_purge_that_fails(
    store: StateStore, allow: Callable[[], object], advance: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Change things while what has expired cannot be deleted (the database says "not this one"), and when it can.

    :param allow: lets it be deleted.
    :param advance: lets time pass for the store.
    """
    for number in range(3):
        advance(PURGE_INTERVAL)
        assert store.add(f"new-{number}", 1, 60)
    assert store.take("new-1") == 1
    (record,) = caplog.records
    assert events(caplog) == ["state_not_purged"]
    assert "not this one" in record.getMessage()
    # An explicit purge raises the error, and the failure counts as an outage.
    with pytest.raises(StateUnavailable, match="not this one"):
        store.purge()
    assert events(caplog) == ["state_not_purged", "state_lost"]
    allow()
    caplog.clear()
    advance(PURGE_INTERVAL)
    assert store.add("newer", 1, 60)
    assert events(caplog) == ["state_regained"]
    assert store.purge() == 0


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(one)["genesys_auth"]["event"] for one in caplog.records]
