"""``explain --reference``: stored SAML failures, for operators only and within limits."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.runtime import runtime
from flask_genesys_auth.web.saml_failures import KEPT_FOR, LOGIN_FAILURES, OTHER_FAILURES, SamlFailures
from tests.forking import FORKS, holds_in_child
from tests.saml.application import BreakableState, Browser, MakeApp, accounts, app, browser, make_app
from tests.saml.conftest import key, other_key

__all__ = ["app", "browser", "key", "make_app", "other_key"]


def reference_in(page: str) -> str:
    (found,) = re.findall(r"\b[0-9a-f]{8}\b", re.sub("<[^>]*>", " ", page))
    return str(found)


def resolved(app: Flask, reference: str) -> dict[str, Any]:
    result = app.test_cli_runner().invoke(genesys_auth, ["explain", "--reference", reference, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def failed(browser: Browser, **changes: Any) -> str:
    """Let a login fail; return the reference of its page."""
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, **changes), relay_state)
    if answer.status_code == 303:
        answer = browser.get(answer.headers["Location"])
    assert answer.status_code == 400
    return reference_in(answer.text)


@pytest.mark.parametrize(
    ("changes", "reason", "both", "advice"),
    [
        (
            {"audience": "https://other.example"},
            "audience",
            ("https://other.example", "https://portal.acme.example/saml/acme/metadata"),
            "saml.entity_id",
        ),
        ({"conditions_not_on_or_after": -120}, "expired", ("ended at 20", "our clock says 20"), "NTP"),
        ({"conditions_not_before": 120}, "not_yet_valid", ("begin at 20", "our clock says 20"), "NTP"),
        (
            {"name_id": "nobody@acme.example"},
            "account",
            ("no_account", "nobody@acme.example"),
            "accounts link acme USER_NAME okta=VALUE",
        ),
    ],
)
def test_a_failure_has_both_values_and_advice(
    app: Flask, browser: Browser, changes: dict[str, Any], reason: str, both: tuple[str, str], advice: str
) -> None:
    reference = failed(browser, **changes)
    found = resolved(app, reference)
    assert (found["reference"], found["reason"], found["about"]) == (reference, reason, "login")
    assert (found["contact_center"], found["provider"], found["address"]) == ("acme", "okta", "127.0.0.1")
    assert all(value in found["detail"] for value in both)
    assert advice in found["advice"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["time"])
    plain = app.test_cli_runner().invoke(genesys_auth, ["explain", "--reference", f" {reference.upper()} "])
    assert plain.exit_code == 0
    assert found["detail"] in plain.output
    assert found["advice"] in plain.output
    assert browser.log_in().status_code == 303


def test_the_log_has_the_same_reference(app: Flask, browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    reference = failed(browser, audience="https://other.example")
    told = vars(caplog.records[-1])["genesys_auth"]
    assert told["reference"] == reference
    assert told["detail"] == resolved(app, reference)["detail"]


def test_an_unknown_reference_points_to_the_log(app: Flask, browser: Browser) -> None:
    assert resolved(app, failed(browser, audience="https://other.example"))
    result = app.test_cli_runner().invoke(genesys_auth, ["explain", "--reference", "0123abcd"])
    assert result.exit_code == 1
    assert "search the server's log for it" in result.output


def test_no_endpoint_returns_a_reference(app: Flask, browser: Browser) -> None:
    reference = failed(browser, audience="https://other.example")
    for rule in app.url_map.iter_rules():
        path = re.sub("<[^>]*>", "acme", rule.rule)
        query = f"reference={reference}&code={reference}&SAMLResponse={reference}&ID={reference}"
        for answer in (browser.get(f"{path}?{query}"), browser.post(path, data={"ticket": reference})):
            assert "other.example" not in answer.text
            assert "audience" not in answer.text


def test_an_unavailable_state_does_not_change_the_response(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    class FullState(BreakableState):
        """It answers, but takes nothing new under a failure's key."""

        def add(self, *args: Any, **more: Any) -> bool:
            self.broken = args[0].startswith("saml-failure:")
            try:
                return super().add(*args, **more)
            finally:
                self.broken = False

    well, ill = Browser(make_app(), key), Browser(make_app(state=FullState("desk")), key)
    pages = []
    for one in (well, ill):
        request, relay_state = one.begin()
        answer = one.answer(one.message(request, audience="https://other.example"), relay_state)
        reference = reference_in(answer.text)
        pages.append((answer.status_code, answer.text.replace(reference, "REFERENCE"), sorted(answer.headers.keys())))
        assert vars(caplog.records[-1])["genesys_auth"]["reference"] == reference
    assert pages[0] == pages[1]


def test_garbage_does_not_displace_failed_logins(app: Flask, browser: Browser) -> None:
    references = []
    for _ in range(3 * OTHER_FAILURES.amount):
        answer = browser.post("/saml/acme/acs", data={"SAMLResponse": "eA=="})
        assert answer.status_code == 400
        references.append(reference_in(answer.text))
    kept = [runtime(app).saml.failures.find(reference) is not None for reference in references]
    assert kept == [True] * OTHER_FAILURES.amount + [False] * 2 * OTHER_FAILURES.amount
    assert resolved(app, failed(browser, audience="https://other.example"))["reason"] == "audience"


def test_stored_failures_are_bounded_and_expire() -> None:
    clock = [1000.0]
    state = MemoryState("tests", clock=lambda: clock[0])
    failures = SamlFailures(state, clock=lambda: clock[0])
    error = SamlError(Fault.AUDIENCE, "\x1b[31m" + "x" * 5000, provider="okta")
    error.asked = True
    reference = failures.note("acme", error, address="::1\n" * 100, leaving=True)
    found = failures.find(reference)
    assert found is not None
    assert (found["about"], found["time"]) == ("logout", 1000.0)
    assert len(json.dumps(found)) < 1000
    assert all(value.isprintable() for value in found.values() if isinstance(value, str))
    clock[0] += KEPT_FOR
    assert failures.find(reference) is None


def test_references_are_unique() -> None:
    drawn = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    failures = SamlFailures(MemoryState("tests"), reference=lambda: next(drawn))
    first = failures.note("acme", SamlError(Fault.CODE, "one"), address="", leaving=False)
    second = failures.note("acme", SamlError(Fault.CODE, "two"), address="", leaving=False)
    assert (first, second) == ("aaaaaaaa", "bbbbbbbb")
    assert (failures.find(first) or {})["detail"] == "one"
    assert (failures.find(second) or {})["detail"] == "two"


def keeps_one_more(failures: SamlFailures) -> bool:
    reference = failures.note("acme", SamlError(Fault.CODE, "one"), address="", leaving=False)
    return failures.find(reference) is not None


@pytest.mark.parametrize("fork", sorted(FORKS))
def test_each_process_has_its_own_limit(fork: str) -> None:
    failures = SamlFailures(MemoryState("tests"), monotonic=lambda: 0.0)
    kept = [keeps_one_more(failures) for _ in range(OTHER_FAILURES.amount + 1)]
    assert kept == [True] * OTHER_FAILURES.amount + [False]
    assert holds_in_child(lambda: keeps_one_more(failures), fork=fork)
    assert not keeps_one_more(failures)


@pytest.mark.parametrize("fork", sorted(FORKS))
# From Python 3.12 on a fork warns where threads live: the one that lives here waits.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_parent_threads(fork: str) -> None:
    inside, leave = threading.Event(), threading.Event()

    def monotonic() -> float:
        if threading.current_thread() is counting:
            inside.set()
            leave.wait()
        return 0.0

    failures = SamlFailures(MemoryState("tests"), monotonic=monotonic)
    counting = threading.Thread(target=keeps_one_more, args=(failures,), daemon=True)
    assert keeps_one_more(failures)
    counting.start()
    inside.wait()
    assert holds_in_child(lambda: keeps_one_more(failures), fork=fork)
    leave.set()
    counting.join()


def test_the_limit_recovers_over_time() -> None:
    now = [0.0]
    failures = SamlFailures(MemoryState("tests"), monotonic=lambda: now[0])
    most, span = OTHER_FAILURES.amount, OTHER_FAILURES.span
    assert [keeps_one_more(failures) for _ in range(most + 1)] == [True] * most + [False]
    now[0] = span - 1
    assert not keeps_one_more(failures)
    now[0] = span + 1
    assert keeps_one_more(failures)
    assert LOGIN_FAILURES.amount > OTHER_FAILURES.amount


def test_account_outages_during_login_are_logged(
    app: Flask, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    path = browser.code()
    accounts(app).broken = True
    with caplog.at_level(logging.WARNING):
        assert browser.get(path).status_code == 503
    told = vars(caplog.records[-1])["genesys_auth"]
    assert (told["event"], told["step"], told["reason"]) == ("unavailable", "saml", "accounts_unavailable")
