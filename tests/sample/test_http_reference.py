"""The page of the HTTP reference, row by row, against the running sample application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from urllib3 import make_headers

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.testing.server import unused_url
from flask_genesys_auth.web import refusals
from sample_app import build_app
from tests.sample.running import RunningSample

from .asking import ask

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, without its first line."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    tables = re.findall(r"(?:^\|.*\n)+", section.partition("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in tables[table].splitlines()[2:]]


def code(cell: str) -> str:
    return cell.strip("`")


def headers_of(words: str, sample: RunningSample) -> dict[str, str]:
    known: dict[str, dict[str, str]] = sample.ready["headers"]
    good = dict(known["web_services"])
    return {
        "nothing": {},
        "a page": {"Accept": "text/html"},
        "a good password": good,
        "a good password from another site": {**good, "Origin": "https://evil.example"},
        "a wrong password": dict(make_headers(basic_auth="wendy@acme.example:a wrong password")),
        "an unreadable Basic header": {"Authorization": "Basic %%%"},
        "Salesforce headers": dict(known["salesforce"]),
        "an unknown contact center": {"ContactCenterId": "nowhere"},
    }[words]


@pytest.mark.parametrize(("request_", "words", "status", "body"), rows("Requests and answers"))
def test_documented_requests_get_documented_responses(
    sample: RunningSample, request_: str, words: str, status: str, body: str
) -> None:
    method, _, path = request_.partition(" ")
    answer = ask(sample.url + code(path), method=method, headers=headers_of(words, sample))
    assert str(answer.status) == status
    assert answer.headers.get("Location", answer.text.strip()).startswith(code(body))
    assert "Set-Cookie" not in answer.headers or path == "`/saml/acme/login`"


def demonstration(folder: Path, **settings: Any) -> Flask:
    configuration = {"SECRET_KEY": "k" * 32, "SAMPLE_DEMONSTRATION": True, "GENESYS_AUTH": settings}
    return build_app(configuration, folder)


def test_documented_endpoints_and_methods_are_complete(tmp_path: Path) -> None:
    saml = {"identity_providers": {"company": {"metadata": "https://idp.example/metadata"}}}
    centers = {"acme": {"web_services": {}, "saml": saml}}
    app = demonstration(tmp_path, public_url="http://127.0.0.1:5000", state_url="memory://", contact_centers=centers)
    known = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.endpoint.endswith("static")
    }
    shown = {
        (code(cells[1]), method)
        for table in (0, 1)
        for cells in rows("Addresses", table)
        for method in cells[0].split(", ")
    }
    assert shown == known


@pytest.mark.parametrize("cells", rows("Refusals"), ids=lambda cells: cells[0])
def test_refusals_are_as_documented(cells: list[str]) -> None:
    name, status, number, message, _, _ = cells
    refusal: type[refusals.Refusal] = getattr(refusals, code(name))
    assert (refusal.code, refusal.status_code, refusal.message) == (int(status), int(number), message)


def test_every_refusal_is_documented() -> None:
    assert {code(cells[0]) for cells in rows("Refusals")} == {one.__name__ for one in refusals.Refusal.__subclasses__()}


def test_throttled_and_unavailable_have_retry_after(tmp_path: Path) -> None:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "k" * 32
    server = {"url": unused_url(), "client_id": "portal", "client_secret": "secret"}
    app.config["GENESYS_AUTH"] = {
        "state_url": "memory://",
        "throttle": {"per_address": "2 per minute"},
        "contact_centers": {
            "acme": {"configuration_server": server, "salesforce": {"organizations": ["00D000000000001"]}}
        },
    }
    app.add_url_rule("/", "home", lambda: "home")
    GenesysAuth(app)
    headers = {code(cells[0]): code(cells[4]) for cells in rows("Refusals")}
    client = app.test_client()
    down = client.get("/", auth=("ann", "a password"))
    assert (down.status_code, down.json) == (503, {"statusCode": 4, "statusMessage": "Temporarily unavailable"})
    assert int(down.headers[headers["DirectoryUnavailable"]]) >= 1
    foreign = {"ssid": "session", "surl": "https://evil.example/id/00D000000000001/005000000000001"}
    statuses = [client.get("/", headers=foreign).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]
    throttled = client.get("/", headers=foreign)
    assert throttled.json == {"statusCode": 3, "statusMessage": "Too many requests"}
    assert int(throttled.headers[headers["Throttled"]]) >= 1
