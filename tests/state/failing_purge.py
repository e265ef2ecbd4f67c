"""A purge in passing that fails: no change fails with it, and it is no outage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_genesys_auth.errors import StateUnavailable


def check_a_purge_that_fails(
    store: Any, allow: Callable[[], object], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change things while what has expired cannot be deleted (the database says "not this one"), and when it can.

    :param allow: lets it be deleted.
    """
    for number in range(3):
        monkeypatch.setattr(store, "_next_purge", 0.0)
        assert store.add(f"new-{number}", 1, 60)
    assert store.take("new-1") == 1
    (record,) = caplog.records
    assert events(caplog) == ["state_not_purged"]
    assert "not this one" in record.getMessage()
    # Whoever asks for it is told; and what fails for a request is an outage, as ever.
    with pytest.raises(StateUnavailable, match="not this one"):
        store.purge()
    assert events(caplog) == ["state_not_purged", "state_lost"]
    allow()
    caplog.clear()
    monkeypatch.setattr(store, "_next_purge", 0.0)
    assert store.add("newer", 1, 60)
    assert events(caplog) == ["state_regained"]
    assert store.purge() == 0


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(one)["genesys_auth"]["event"] for one in caplog.records]
