"""Health checks of servers: each kind of failure beside a reachable server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_genesys_auth.chain.outcomes import Unavailable
from flask_genesys_auth.checks import Check
from flask_genesys_auth.config.addresses import AllowedHost
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer, Salesforce
from flask_genesys_auth.directories.genesys import GenesysDirectory
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.steps.configuration_server import ConfigurationServerStep
from flask_genesys_auth.steps.salesforce import SalesforceStep
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import RawServer, unused_url
from flask_genesys_auth.upstream import Upstream, probe, reach_check

from .test_tls import certificate, serve_tls

__all__ = ["certificate"]


def reached(client: Upstream, url: str, seconds: float = 20.0) -> Check:
    return reach_check("there", url, *probe(client, "GET", url, seconds=seconds), seconds)


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 408, 429])
def test_answer_below_500_counts_as_reachable(upstream: Upstream, genesys: GenesysEmulator, status: int) -> None:
    genesys.fail(status, body="whatever")
    check = reached(upstream, genesys.url)
    assert (check.status, check.advice) == ("ok", "")
    assert f"answered HTTP {status} after" in check.finding


def test_oversized_answer_counts_as_reachable(upstream: Upstream, genesys: GenesysEmulator) -> None:
    genesys.fail(200, body="x" * 100_000)
    assert reached(upstream, genesys.url).status == "ok"


@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_error_is_a_failure(upstream: Upstream, genesys: GenesysEmulator, status: int) -> None:
    genesys.fail(status)
    check = reached(upstream, genesys.url)
    assert (check.status, f"HTTP {status}" in check.finding, "its log" in check.advice) == ("failure", True, True)


def test_slow_server_is_a_warning(upstream: Upstream, genesys: GenesysEmulator) -> None:
    outcome, status, _ = probe(upstream, "GET", genesys.url, seconds=20)
    assert reach_check("there", genesys.url, outcome, status, 9.0, 20.0).status == "ok"
    assert reach_check("there", genesys.url, outcome, status, 11.0, 20.0).status == "warning"


def test_refused_unresolved_and_silent_get_different_advice(upstream: Upstream) -> None:
    assert "nothing listens there" in reached(upstream, unused_url()).advice
    assert "name servers" in reached(upstream, "http://nobody.invalid").advice
    with RawServer(hold=True) as silent:
        check = reached(upstream, silent.url, seconds=2)
    assert (check.status, "raise timeout" in check.advice) == ("failure", True)


def test_tls_errors_are_told_apart(upstream: Upstream, certificate: Path) -> None:
    with serve_tls(certificate) as port:
        check = reached(upstream, f"https://127.0.0.1:{port}")
        assert (check.status, "ca_file" in check.advice) == ("failure", True)
        trusting = Upstream(certificates=certificate.read_text().partition("-----BEGIN PRIVATE")[0])
        assert reached(trusting, f"https://127.0.0.1:{port}").status == "ok"
        trusting.close()
    with RawServer([b"I speak plain text\r\n"]) as plain:
        check = reached(upstream, plain.url.replace("http://", "https://"))
        assert (check.status, "TLS" in check.advice) == ("failure", True)


def test_checks_bypass_the_guard(upstream: Upstream, genesys: GenesysEmulator) -> None:
    for _ in range(10):
        assert isinstance(probe(upstream, "GET", unused_url(), seconds=20)[0], Unavailable)
    assert reached(upstream, genesys.url).status == "ok"


def salesforce_step(emulator: SalesforceEmulator) -> SalesforceStep:
    host = AllowedHost("127.0.0.1", "http", int(emulator.url.rpartition(":")[2]))
    return SalesforceStep(Salesforce(frozenset({emulator.organization}), identity_hosts=(host,), timeout=20))


def test_salesforce_check_sends_no_session(salesforce: SalesforceEmulator) -> None:
    (check,) = salesforce_step(salesforce).checks()
    assert (check.name, check.status) == ("salesforce.127.0.0.1", "ok")
    assert "HTTP 403" in check.finding
    (request,) = salesforce.requests
    assert "Authorization" not in request.headers
    salesforce.fail(503)
    (check,) = salesforce_step(salesforce).checks()
    assert check.status == "failure"


def directory(emulator: GenesysEmulator, secret: str | None = None) -> GenesysDirectory:
    return GenesysDirectory(
        ConfigurationServer(
            url=emulator.url,
            client_id=emulator.client_id,
            client_secret=Secret(secret or emulator.client_secret),
            timeout=20,
        )
    )


def client_check(emulator: GenesysEmulator, secret: str | None = None) -> Check:
    reach, client = directory(emulator, secret).checks()
    assert reach.status == "ok"
    return client


def test_check_sends_the_clients_credentials_only(genesys: GenesysEmulator) -> None:
    check = client_check(genesys)
    assert (check.name, check.status) == ("configuration_server.genesys.client", "ok")
    (request,) = genesys.requests
    assert dict(request.form) == {"grant_type": "client_credentials", "client_id": genesys.client_id}


def test_rejected_client_is_a_failure_without_its_secret(genesys: GenesysEmulator) -> None:
    check = client_check(genesys, "another-s3cret")
    assert (check.status, "client_secret" in check.advice) == ("failure", True)
    assert "another-s3cret" not in str(check)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, '{"access_token": "t0ken"}', "ok"),
        (400, '{"error": "unauthorized_client"}', "ok"),
        (400, '{"error": "invalid_client"}', "failure"),
        (401, "no JSON", "failure"),
        (404, "not found", "failure"),
        (302, "", "failure"),
        (400, "what?", "warning"),
    ],
)
def test_client_errors_are_told_apart(genesys: GenesysEmulator, status: int, body: str, expected: str) -> None:
    genesys.fail(status, body=body, headers={"Content-Type": "application/json"})
    check = client_check(genesys)
    assert check.status == expected
    assert "t0ken" not in str(check)


def test_unreachable_genesys_is_one_failure(genesys: GenesysEmulator) -> None:
    genesys.fail(500)
    (check,) = directory(genesys).checks()
    assert check.status == "failure"


class _Quiet:
    def verify(self, user_name: str, password: str) -> Unavailable:
        raise NotImplementedError


class _Talking(_Quiet):
    def checks(self) -> Iterator[Check]:
        yield Check("configuration_server.phone_book", "ok", "it is open")


def test_custom_directory_may_offer_checks() -> None:
    limit = FailureLimit("2 per 15 minutes", name="configuration_server:acme")
    settings = ConfigurationServer(directory="acme:PhoneBook")
    assert list(ConfigurationServerStep(settings, _Quiet(), limit).checks()) == []
    (check,) = ConfigurationServerStep(settings, _Talking(), limit).checks()
    assert check.finding == "it is open"
