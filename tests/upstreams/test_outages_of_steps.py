"""Outages in a step and an application: unavailable, never a wrong password, and no slot stays taken."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import Authenticated, Outcome, Reason, Rejected, Unavailable
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer
from flask_genesys_auth.directories.genesys import USERINFO_PATH, GenesysDirectory
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.steps.configuration_server import ConfigurationServerStep
from flask_genesys_auth.steps.salesforce import SalesforceStep
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import RawServer
from flask_genesys_auth.upstream import Deadline, Guard, Upstream, Upstreams
from flask_genesys_auth.upstream.breaker import FAILURES, LONGEST_PAUSE

from .. import gates
from .test_guard import MOST, Clock
from .test_salesforce import settings as salesforce_settings

Build = Callable[..., Evidence]
PASSWORD = "a good password"
WRONG = {"Authorization": "Basic " + base64.b64encode(b"ann:a wrong password").decode()}
UNAUTHORIZED = '{"status": {"code": 603}}'


class Agents:
    """A Configuration Server step with a limit of two failures, through a client whose clock is ours."""

    def __init__(self, emulator: GenesysEmulator, build: Build, center: ContactCenter) -> None:
        self._build, self._center = build, center
        self.emulator = emulator
        self.clock = Clock()
        self.settings = ConfigurationServer(
            url=emulator.url, client_id=emulator.client_id, client_secret=Secret(emulator.client_secret), timeout=60
        )
        self.upstream = Upstream(guard=Guard(concurrent=1, max_wait=0.01, clock=self.clock))
        self.ann = emulator.add_user("ann", PASSWORD)
        self._step = ConfigurationServerStep(
            self.settings, GenesysDirectory(self.settings, self.upstream), FailureLimit("2 per 15 minutes")
        )

    def __call__(self, headers: dict[str, str] | None = None) -> Outcome:
        evidence = self._build(self.ann if headers is None else headers)
        return gates.ask(self._step, evidence, self._center, account=True)

    def reasons(self, times: int, headers: dict[str, str] | None = None) -> set[Reason]:
        found = [self(headers) for _ in range(times)]
        assert all(isinstance(outcome, Unavailable) for outcome in found)
        return {outcome.reason for outcome in found if isinstance(outcome, Unavailable)}


@pytest.fixture
def agents(genesys: GenesysEmulator, evidence: Build, center: ContactCenter) -> Agents:
    return Agents(genesys, evidence, center)


def test_outage_returns_the_directorys_slot(agents: Agents) -> None:
    agents.emulator.fail(503)
    assert agents.reasons(FAILURES) == {Reason.SERVER_ERROR}
    agents.emulator.requests.clear()
    assert agents.reasons(10) == agents.reasons(10, WRONG) == {Reason.CIRCUIT_OPEN}
    assert not agents.emulator.requests
    agents.emulator.repair()
    agents.clock.now += LONGEST_PAUSE * MOST
    assert isinstance(agents(), Authenticated)
    assert isinstance(agents(WRONG), Rejected)
    assert isinstance(agents(WRONG), Rejected)
    assert agents(WRONG).reason is Reason.THROTTLED  # type: ignore[union-attr]  # Authenticated has none


def test_busy_directory_returns_the_slot(agents: Agents) -> None:
    visit = agents.upstream.visit(agents.settings.url, Deadline(60))
    assert not isinstance(visit, Unavailable)
    with visit:
        assert agents.reasons(10) == agents.reasons(10, WRONG) == {Reason.UPSTREAM_BUSY}
    assert not agents.emulator.requests
    assert isinstance(agents(WRONG), Rejected)
    assert isinstance(agents(), Authenticated)


def test_wrong_password_does_not_open_the_circuit(agents: Agents) -> None:
    agents.emulator.fail(401, body=UNAUTHORIZED)
    directory = GenesysDirectory(agents.settings, agents.upstream)
    for _ in range(2 * FAILURES):
        assert isinstance(directory.verify("ann", "wrong"), Rejected)
    agents.emulator.repair()
    assert isinstance(agents(), Authenticated)


def test_directory_without_userinfo_opens_the_circuit(agents: Agents) -> None:
    agents.emulator.fail(500, path=USERINFO_PATH)
    assert agents.reasons(FAILURES) == {Reason.SERVER_ERROR}
    assert agents.reasons(1) == {Reason.CIRCUIT_OPEN}


def test_one_tenants_outage_is_not_anothers(agents: Agents) -> None:
    agents.emulator.fail(500)
    assert agents.reasons(FAILURES + 1) == {Reason.SERVER_ERROR, Reason.CIRCUIT_OPEN}
    agents.emulator.repair()
    other = ConfigurationServer(
        url=agents.settings.url,
        client_id=agents.settings.client_id,
        client_secret=agents.settings.client_secret,
        tenant="Another",
    )
    found = GenesysDirectory(other, agents.upstream).verify("ann", PASSWORD)
    assert isinstance(found, Rejected)  # the emulator knows no such tenant: it was asked
    assert agents.reasons(1) == {Reason.CIRCUIT_OPEN}


def test_salesforce_is_spared_as_well_by_organization(
    salesforce: SalesforceEmulator, evidence: Build, center: ContactCenter
) -> None:
    clock = Clock()
    upstream = Upstream(guard=Guard(clock=clock))
    ann = salesforce.add_user("ann@acme.example")
    step = SalesforceStep(salesforce_settings(salesforce.url, timeout=60), upstream)
    other = SalesforceStep(
        salesforce_settings(salesforce.url, organizations=frozenset({"00D000000000002"}), timeout=60), upstream
    )
    theirs = {**ann, "surl": f"{salesforce.url}/id/00D000000000002/005000000000001"}

    def ask(one: SalesforceStep, headers: dict[str, str]) -> object:
        return getattr(one.authenticate(evidence(headers), center), "reason", "authenticated")

    salesforce.fail(503)
    assert [ask(step, ann) for _ in range(FAILURES + 1)] == [Reason.SERVER_ERROR] * FAILURES + [Reason.CIRCUIT_OPEN]
    salesforce.repair()
    assert ask(step, ann) is Reason.CIRCUIT_OPEN
    assert ask(other, theirs) is Reason.SESSION_REFUSED
    clock.now += LONGEST_PAUSE * MOST
    assert ask(step, ann) == "authenticated"
    upstream.close()


def test_same_settings_share_one_client() -> None:
    upstreams = Upstreams()
    one = salesforce_settings("https://login.salesforce.com:443")
    two = salesforce_settings("https://login.salesforce.com:443", organizations=frozenset({"00D000000000002"}))
    assert upstreams.of(one) is upstreams.of(two)
    for changes in ({"timeout": 1.0}, {"concurrent_calls": 2}, {"ca_file": "PEM"}):
        other = salesforce_settings("https://login.salesforce.com:443", **changes)
        assert upstreams.of(other) is not upstreams.of(one)


def application(genesys: str, salesforce: str) -> FlaskClient:
    def center(number: int, **steps: Any) -> dict[str, Any]:
        tables = {
            "salesforce": {
                "organizations": [f"00D00000000000{number}"],
                "identity_hosts": [salesforce],
                "concurrent_calls": 2,
                "timeout": 60,
            },
            "configuration_server": {
                "url": genesys,
                "client_id": "flask-genesys-auth",
                "client_secret": "client-secret",
                "timeout": 60,
            },
        }
        return {"id": f"center-{number}", **{name: tables[name] for name in tables}, **steps}

    app = Flask(__name__)
    app.secret_key = "x" * 32
    app.config["GENESYS_AUTH"] = {
        "state_url": "memory://",
        "contact_centers": {"one": center(1), "two": center(2)},
        "default_contact_center": "one",
    }
    GenesysAuth(app)
    app.add_url_rule("/", "home", lambda: "in")
    return app.test_client()


def test_open_circuit_answers_503_for_all_contact_centers(genesys: GenesysEmulator) -> None:
    genesys.fail(500)
    client = application(genesys.url, "https://login.salesforce.com")
    answers = [client.get("/", headers=WRONG) for _ in range(FAILURES + 3)]
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    assert len(genesys.requests) == FAILURES
    # The same tenant of the same server, by way of another contact center.
    assert client.get("/", headers={**WRONG, "ContactCenterId": "center-2"}).status_code == 503
    assert len(genesys.requests) == FAILURES


def test_application_with_a_working_directory_answers_401(genesys: GenesysEmulator) -> None:
    client = application(genesys.url, "https://login.salesforce.com")
    assert client.get("/", headers=WRONG).status_code == 401
    assert len(genesys.requests) == 1


def test_contact_centers_share_the_salesforce_limit(salesforce: SalesforceEmulator) -> None:
    client = application("https://gws.invalid", salesforce.url)

    def ask(number: int, session: str) -> int:
        surl = f"{salesforce.url}/id/00D00000000000{number}/005000000000001"
        headers = {"ssid": session, "surl": surl, "ContactCenterId": f"center-{number}"}
        return client.application.test_client().get("/", headers=headers).status_code

    salesforce.fail(hang=True)
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(ask, number, f"00D!{number}") for number in (1, 2)]
        while len(salesforce.requests) < 2:
            assert not any(one.done() for one in waiting)
        assert [ask(number, "00D!one-more") for number in (1, 2)] == [503, 503]
        assert len(salesforce.requests) == 2
        salesforce.repair()
        assert [one.result() for one in waiting] == [503, 503]
    assert [ask(number, "00D!one-more") for number in (1, 2)] == [401, 401]


def test_dead_salesforce_leaves_directory_logins_alone(genesys: GenesysEmulator) -> None:
    with RawServer([b"garbage"]) as dead:
        client = application(genesys.url, dead.url)
        theirs = {"ssid": "00D!session", "surl": f"{dead.url}/id/00D000000000001/005000000000001"}
        for number in range(FAILURES + 3):
            assert client.get("/", headers=theirs | {"ssid": f"00D!{number}"}).status_code == 503
        assert client.get("/", headers=WRONG).status_code == 401
    assert len(genesys.requests) == 1
