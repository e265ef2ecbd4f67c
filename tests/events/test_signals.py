"""Signals: their values, and failing receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask

from flask_genesys_auth import GenesysAuth, signals, unprotected
from flask_genesys_auth.web.runtime import runtime
from tests.saml.application import BreakableState
from tests.web.conftest import MakeApp, accounts_of

from .conftest import Told

ANN = ("ann@acme.example", "ann's: password")
ALL: dict[NamedSignal, set[str]] = {
    signals.authenticated: {"decision"},
    signals.rejected: {"decision"},
    signals.unavailable: {"decision"},
    signals.logged_in: {"user", "contact_center", "step"},
    signals.logged_out: {"account_id", "contact_center", "step"},
    signals.session_revoked: {"account_id", "contact_center", "count"},
}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    auth = GenesysAuth()

    def log_in() -> str:
        decision = auth.log_in_with_password(*ANN)
        return str(decision.authenticated)

    def log_out() -> str:
        auth.logout()
        return "out"

    def add(app: Flask) -> None:
        app.add_url_rule("/in", "in", unprotected(log_in), methods=["POST"])
        app.add_url_rule("/out", "out", log_out, methods=["POST"])

    return make_app(prepare=add, state=BreakableState("desk"))


def go_round(app: Flask, break_state: Callable[[], Any]) -> list[int | str]:
    """Bring every signal about; return what the clients have seen."""
    client, other = app.test_client(), app.test_client()
    seen: list[int | str] = [
        client.get("/private", auth=ANN).status_code,
        client.get("/private", auth=(ANN[0], "wrong")).status_code,
        client.post("/in").text,
        client.get("/private").status_code,
        other.post("/in").text,
        client.post("/out").text,
        client.get("/private").status_code,
    ]
    with app.app_context():
        (ann,) = [one for one in accounts_of(app).list() if one.user_name == ANN[0]]
        seen.append(GenesysAuth().revoke(account_id=ann.id))
    seen.append(other.get("/private").status_code)
    other.post("/in")
    break_state()
    seen.append(other.get("/private").status_code)
    return seen


EXPECTED = [200, 401, "True", 200, "True", "out", 401, 1, 401, 503]


@pytest.fixture
def break_state(app: Flask) -> Callable[[], None]:
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    return lambda: setattr(state, "broken", True)


def test_each_signal_has_its_sender_and_values(app: Flask, break_state: Callable[[], None]) -> None:
    heard: list[tuple[NamedSignal, Flask, dict[str, Any]]] = []
    with ExitStack() as stack:
        for signal in ALL:

            def hear(sender: Flask, signal: NamedSignal = signal, **values: Any) -> None:
                heard.append((signal, sender, values))

            stack.enter_context(signal.connected_to(hear, app))
        assert go_round(app, break_state) == EXPECTED
    assert {signal for signal, _, _ in heard} == set(ALL)
    for signal, sender, values in heard:
        assert sender is app
        assert set(values) == ALL[signal]


def raises(*_: object, **__: object) -> None:
    raise RuntimeError("the receiver's own trouble")


async def coroutine(*_: object, **__: object) -> None:
    raise AssertionError("nobody waits for it")


@pytest.fixture(params=[raises, coroutine])
def troubled(request: pytest.FixtureRequest, app: Flask) -> Iterator[None]:
    with ExitStack() as stack:
        for signal in ALL:
            stack.enter_context(signal.connected_to(request.param, app))
        yield


@pytest.mark.usefixtures("troubled")
def test_a_failing_receiver_changes_nothing_else(app: Flask, told: Told, break_state: Callable[[], None]) -> None:
    heard: set[str] = set()
    with ExitStack() as stack:
        for signal in ALL:

            def hear(sender: Flask, signal: NamedSignal = signal, **values: Any) -> None:
                heard.add(signal.name)

            stack.enter_context(signal.connected_to(hear, app))
        assert go_round(app, break_state) == EXPECTED
    assert heard == {signal.name for signal in ALL}
    failed = told.fields("receiver_failed")
    assert {fields["detail"].split()[3].rstrip(":") for fields in failed} == heard
    assert all(record.exc_info for record in told.records if "receiver_failed" in record.getMessage())


def test_receivers_of_other_applications_are_not_called(app: Flask, make_app: MakeApp) -> None:
    heard: list[object] = []
    with signals.authenticated.connected_to(lambda *_, **__: heard.append(1), make_app()):
        assert app.test_client().get("/private", auth=ANN).status_code == 200
    with signals.authenticated.connected_to(lambda *_, **__: heard.append(1), app), signals.authenticated.muted():
        assert app.test_client().get("/private", auth=ANN).status_code == 200
    assert not heard
