"""The documented recipes work."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from sqlalchemy import create_engine, text

from flask_genesys_auth import GenesysAuth, unprotected
from tests.web.conftest import MakeApp

from .conftest import Told

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
ANN = ("ann@acme.example", "ann's: password")


def recipe(of: str) -> dict[str, Any]:
    """Run the program of the page that has this name in it; return its names."""
    (program,) = [one for one in re.findall(r"^```python\n(.+?)^```", PAGE, re.DOTALL | re.MULTILINE) if of in one]
    names: dict[str, Any] = {}
    exec(program, names)
    return names


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("flask_genesys_auth")
    level, handlers = logger.level, list(logger.handlers)
    yield logger
    logger.setLevel(level)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    auth = GenesysAuth()

    def log_in() -> str:
        return str(auth.log_in_with_password(*ANN).authenticated)

    return make_app(prepare=lambda app: app.add_url_rule("/in", "in", unprotected(log_in), methods=["POST"]))


def test_prometheus(app: Flask, logger: logging.Logger) -> None:
    names = recipe("class CountEvents")
    try:
        names["watch"](app)
        client = app.test_client()
        for address in ("192.0.2.1", "192.0.2.2"):
            client.get("/private", auth=ANN, environ_overrides={"REMOTE_ADDR": address})
            for name in ("guesser", "mallory\n", "x" * 300):
                client.get("/private", auth=(name, "guess"), environ_overrides={"REMOTE_ADDR": address})
        client.post("/in")
        shown = generate_latest(REGISTRY).decode()
        bad = {"event": "rejected", "step": "web_services", "reason": "bad_credentials", "contact_center": "acme"}
        assert REGISTRY.get_sample_value("genesys_auth_events_total", bad) == 2
        good = {**bad, "event": "logged_in", "reason": ""}
        assert REGISTRY.get_sample_value("genesys_auth_events_total", good) == 1
        by = {"by": "web_services", "contact_center": "acme"}
        assert REGISTRY.get_sample_value("genesys_auth_walk_seconds_count", by) == 3
        assert not re.search("guesser|mallory|xxx|192.0.2", shown)
    finally:
        REGISTRY.unregister(names["EVENTS"])
        REGISTRY.unregister(names["SECONDS"])


def test_opentelemetry(app: Flask) -> None:
    names = recipe("def note_decision")  # blinker refers to receivers weakly
    names["trace_decisions"](app)
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    client = app.test_client()
    client.get("/private", auth=ANN)  # no span is under way
    with tracer.start_as_current_span("GET /private"):
        client.get("/private", auth=ANN)
    with tracer.start_as_current_span("GET /private"):
        client.get("/private", auth=("ann@acme.example", "wrong"))
    good, bad = exporter.get_finished_spans()
    assert dict(good.attributes or {}) == {
        "genesys_auth.contact_center": "acme",
        "genesys_auth.authenticated_by": "web_services",
    }
    assert [event.name for event in good.events][-1] == "genesys_auth.web_services"
    assert (bad.attributes or {})["genesys_auth.authenticated_by"] == ""
    reasons = {event.name: (event.attributes or {})["reason"] for event in bad.events}
    assert reasons["genesys_auth.web_services"] == "bad_credentials"
    provider.shutdown()


def test_the_audit_table(
    app: Flask, logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"sqlite:///{tmp_path / 'audit.sqlite3'}"
    handler = recipe("class WriteAudit")["keep_audit"](address)
    client = app.test_client()
    client.get("/private", auth=ANN)
    client.get("/private", auth=("ann@acme.example", "wrong"), environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    client.get("/supervisors", auth=ANN)
    assert client.post("/in").text == "True"
    with create_engine(address).connect() as connection:
        columns = "event, account, step, outcome, reason, contact_center, address, time"
        rows = connection.execute(text(f"SELECT {columns} FROM auth_audit ORDER BY id")).all()
        ids = connection.execute(text("SELECT account FROM auth_audit WHERE event = 'logged_in'")).scalars().all()
    assert [tuple(row)[:7] for row in rows] == [
        ("rejected", "ann@acme.example", "web_services", "rejected", "bad_credentials", "acme", "192.0.2.1"),
        ("role_refused", ids[0], "web_services", "rejected", "", "acme", "127.0.0.1"),
        ("logged_in", ids[0], "web_services", "authenticated", "", "acme", "127.0.0.1"),
    ]
    assert all(row.time for row in rows)
    (tmp_path / "audit.sqlite3").write_bytes(b"broken" * 1000)
    handler.engine.dispose()
    assert client.post("/in").text == "True"
    assert "--- Logging error ---" in capsys.readouterr().err
    handler.engine.dispose()


def test_json_lines(app: Flask, told: Told) -> None:
    formatter = recipe("class JsonLines")["JsonLines"]()
    app.test_client().get("/private", auth=("ann\n@acme.example", "wrong"))
    (line,) = [formatter.format(record) for record in told.records]
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["event"], found["reason"]) == ("WARNING", "rejected", "malformed_credentials")
    other = logging.LogRecord("other", logging.INFO, "", 1, "said %s", ("so",), None)
    assert json.loads(formatter.format(other))["detail"] == "said so"
