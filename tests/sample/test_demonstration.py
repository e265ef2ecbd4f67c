"""The demonstration over real HTTP: each step of the flow by its printed command."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from .asking import Answer, ask, ask_like_curl
from .running import PATIENCE, RunningSample

WALK = "/api/v2/diagnostics/walk"
NOTHING_HERE = {"outcome": "not_applicable", "reason": "no_evidence"}


@pytest.fixture(scope="module")
def lines(sample: RunningSample) -> dict[str, str]:
    """The printed ``curl`` lines, by what the ready file calls them."""
    found: dict[str, str] = sample.ready["curl"]
    return found


def steps(answer: Answer) -> dict[str, dict[str, object]]:
    return {row.pop("step"): row for row in answer.json["steps"]}


def test_first_step_authenticates_the_salesforce_line(lines: dict[str, str]) -> None:
    answer = ask_like_curl(lines["salesforce"])

    assert answer.status == 200
    assert list(answer.json) == [
        "statusCode",
        "contactCenter",
        "authenticated",
        "authenticatedBy",
        "resumed",
        "steps",
    ]
    assert answer.json["statusCode"] == 0
    assert answer.json["contactCenter"] == "acme"
    assert answer.json["authenticated"] is True
    assert answer.json["authenticatedBy"] == "salesforce"
    assert answer.json["resumed"] is False
    [only] = answer.json["steps"]
    assert only.pop("milliseconds") >= 0
    assert only == {"step": "salesforce", "outcome": "authenticated"}


def test_second_step_authenticates_the_configuration_server_line(lines: dict[str, str]) -> None:
    answer = ask_like_curl(lines["configuration_server"])

    assert answer.json["authenticatedBy"] == "configuration_server"
    assert list(steps(answer)) == ["salesforce", "configuration_server"]


def test_third_step_authenticates_the_web_services_line(lines: dict[str, str]) -> None:
    answer = ask_like_curl(lines["web_services"])

    assert answer.json["authenticatedBy"] == "web_services"
    walked = steps(answer)
    assert list(walked) == ["salesforce", "configuration_server", "web_services"]
    assert walked["configuration_server"]["outcome"] == "rejected"
    assert walked["configuration_server"]["reason"] == "bad_credentials"


def test_the_saml_line_leads_to_the_identity_provider(sample: RunningSample, lines: dict[str, str]) -> None:
    answer = ask_like_curl(lines["saml"])
    assert answer.status == 302
    here = answer.headers["Location"]
    assert here.startswith("/saml/acme/login")

    onward = ask(sample.url + here, headers={"Accept": "text/html", "Cookie": answer.headers.get("Set-Cookie", "")})
    assert onward.status == 302
    assert onward.headers["Location"].startswith(sample.ready["addresses"]["identity_provider"] + "/")


def test_the_anonymous_line_passes_every_step(lines: dict[str, str]) -> None:
    answer = ask_like_curl(lines["anonymous"])

    assert answer.status == 200
    assert answer.json["authenticated"] is False
    assert answer.json["authenticatedBy"] is None
    walked = steps(answer)
    assert list(walked) == ["salesforce", "configuration_server", "web_services", "login_session", "saml"]
    assert {row["outcome"] for row in walked.values()} == {"not_applicable"}
    assert walked["saml"]["reason"] == "browser_login"
    assert walked["web_services"]["reason"] == "no_evidence"


def test_everything_in_the_ready_file_is_printed(tmp_path: Path) -> None:
    own = RunningSample(tmp_path)
    status, output, _ = own.stop()

    assert status == 0
    printed = [line.strip() for line in output.splitlines()]
    assert all(line in printed for line in own.ready["curl"].values())
    for name, address in own.ready["addresses"].items():
        assert address in output, name
    for person in own.ready["credentials"].values():
        assert person["user_name"] in output
        assert person.get("password", "no password") in output


def test_the_printed_command_runs_without_an_activated_environment(tmp_path: Path) -> None:
    own = RunningSample(tmp_path)
    assert own.process.stdout is not None
    try:
        printed = (line.strip() for line in own.process.stdout)
        assert "Commands, while the demonstration runs" in printed
        done = subprocess.run(
            ["/bin/sh", "-c", next(printed)],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    finally:
        own.stop()

    assert done.returncode == 0, done.stderr
    assert "pages.supervisor" in done.stdout


def test_headers_of_the_ready_file_authenticate_their_users(sample: RunningSample) -> None:
    for step, headers in sample.ready["headers"].items():
        answer = ask(sample.url + "/api/v2/me", headers=headers)
        assert answer.status == 200, step
        user = answer.json["user"]
        assert user["enabled"] is True
        assert user["changePasswordOnFirstLogin"] is False
        assert user["path"] == f"/users/{user['id']}"
        if step in sample.ready["credentials"]:
            assert user["userName"] == sample.ready["credentials"][step]["user_name"]
        assert ask(sample.url + WALK, headers=headers).json["authenticatedBy"] == step


def test_requests_with_header_credentials_set_no_cookie(sample: RunningSample) -> None:
    for headers in (*sample.ready["headers"].values(), {}):
        for path in (WALK, "/", "/healthz", "/api/v2/diagnostics/version"):
            assert "Set-Cookie" not in ask(sample.url + path, headers=headers).headers


def test_a_wrong_password_is_refused(sample: RunningSample, lines: dict[str, str]) -> None:
    person = sample.ready["credentials"]["web_services"]
    wrong = lines["web_services"].replace(person["password"], "wrong")
    refused = ask_like_curl(wrong.replace(WALK, "/api/v2/me"))

    assert refused.status == 401
    assert refused.json == {"statusCode": 20, "statusMessage": "Access denied"}
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    assert ask_like_curl(lines["web_services"].replace(WALK, "/api/v2/me")).status == 200


def test_an_agent_is_not_a_supervisor(sample: RunningSample) -> None:
    headers = sample.ready["headers"]
    as_page = {"Accept": "text/html"}

    refused = ask(sample.url + "/supervisor", headers={**headers["web_services"], **as_page})
    assert refused.status == 403
    assert "No permission" in refused.text
    assert ask(sample.url + "/supervisor", headers={**headers["configuration_server"], **as_page}).status == 200


def test_home_draws_the_walk_of_its_own_request(sample: RunningSample) -> None:
    page = ask(sample.url + "/", headers=sample.ready["headers"]["web_services"]).text

    assert re.findall(r'<li class="step is-(\w+)', page) == [
        "not_applicable",
        "rejected",
        "authenticated",
        "not_reached",
        "not_reached",
        "end",
    ]
    assert "<code>bad_credentials</code>" in page
    assert re.search(r"\d+\.\d ms", page)
    assert "Hello, anonymous" in ask(sample.url + "/").text


def test_unprotected_endpoints_answer_anonymous_clients(sample: RunningSample) -> None:
    assert ask(sample.url + "/healthz").json == {"statusCode": 0}
    version = ask(sample.url + "/api/v2/diagnostics/version").json
    assert version["statusCode"] == 0
    assert re.match(r"\d+\.\d+", version["version"])


def test_only_its_owner_can_read_the_ready_file(sample: RunningSample) -> None:
    assert stat.S_IMODE(sample.ready_file.stat().st_mode) == 0o600
    assert sample.ready["pid"] == sample.process.pid


def test_the_identity_provider_is_another_site(sample: RunningSample) -> None:
    assert sample.url.startswith("http://127.0.0.1:")
    assert sample.ready["addresses"]["identity_provider"].startswith("http://localhost:")
