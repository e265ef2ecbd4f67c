"""The credential gate in a walk: throttle, cached results, and the slots of a step's own limit."""

from __future__ import annotations

import pytest

from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import (
    Outcome,
    Reason,
    Rejected,
    Unavailable,
)
from flask_genesys_auth.limits import FailureLimit
from tests.chain.scripted import (
    FickleStep,
    HoldingStep,
    Person,
    ScriptedStep,
    Setup,
    basic_setup,
    password_is,
    proves,
    request,
)


def test_success_is_cached_with_earlier_rejections() -> None:
    setup, first, second = basic_setup()
    before = setup.chain.walk(request("ws"))
    after = setup.chain.walk(request("ws"))
    assert (first.asked, second.asked) == (1, 1)
    assert [record.outcome for record in after.steps] == [record.outcome for record in before.steps]
    assert after.authenticated_by == "web_services"


def test_cached_result_requires_same_address_name_password() -> None:
    setup, first, _ = basic_setup()
    assert setup.chain.walk(request("ws")).authenticated
    assert setup.chain.walk(request("ws", address="192.0.2.2")).authenticated
    assert first.asked == 2
    assert not setup.chain.walk(request("ws2")).authenticated
    assert setup.chain.walk(request("ws", user="bob")).authenticated
    assert first.asked == 4


@pytest.mark.parametrize(
    "addresses",
    [
        ("192.0.2.1:40001", "192.0.2.1:40002", "192.0.2.1"),
        ("[2001:db8::1]:40001", "[2001:db8::1]:40002", "2001:db8:0::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "[::ffff:192.0.2.1]:40001"),
    ],
)
def test_cached_result_holds_for_every_port(addresses: tuple[str, ...]) -> None:
    setup, first, _ = basic_setup()
    for address in addresses:
        assert setup.chain.walk(request("ws", address=address)).authenticated
    assert first.asked == 1


@pytest.mark.parametrize("address", ["", "unknown", "/run/portal.sock"])
def test_unreadable_address_caches_nothing(address: str) -> None:
    setup, first, second = basic_setup()
    for _ in range(5):
        assert setup.chain.walk(request("ws", address=address)).authenticated
    assert (first.asked, second.asked) == (5, 5)
    assert len(setup.verified) == setup.failures == 0


def test_reuse_of_zero_seconds_caches_nothing() -> None:
    setup, first, second = basic_setup(reuse=0)
    for _ in range(2):
        assert setup.chain.walk(request("ws")).authenticated
    assert (first.asked, second.asked) == (2, 2)


def test_shortest_reuse_time_counts() -> None:
    first = ScriptedStep("first", password_is("first", "other"), credentials="basic", reuse=0)
    second = ScriptedStep("second", password_is("second", "ws"), credentials="basic", reuse=60)
    setup = Setup(first, second)
    for _ in range(2):
        assert setup.chain.walk(request("ws")).authenticated
    assert (first.asked, second.asked) == (2, 2)


def test_account_is_read_despite_cached_credentials() -> None:
    setup, _, second = basic_setup()
    assert setup.chain.walk(request("ws")).authenticated
    setup.people.people["ann"].roles = frozenset({"ROLE_AGENT"})
    assert setup.chain.walk(request("ws")).roles == {"ROLE_AGENT"}
    setup.people.people["ann"].enabled = False
    refused = setup.chain.walk(request("ws"))
    assert refused.steps[-1].reason is Reason.ACCOUNT_DISABLED
    assert second.asked == 2  # what no longer held was forgotten and asked about afresh


def test_new_password_version_is_verified_again() -> None:
    setup, _, second = basic_setup()
    assert setup.chain.walk(request("ws")).authenticated
    setup.people.people["ann"].version = "2"
    second.answer = password_is("web_services", "new")
    assert not setup.chain.walk(request("ws")).authenticated
    assert setup.chain.walk(request("new")).authenticated


class OwnPasswordStep(ScriptedStep):
    """A step over the accounts' own passwords, as Web Services is."""

    needs_version = True


@pytest.mark.parametrize("step", [ScriptedStep, OwnPasswordStep])
def test_name_of_another_account_is_verified_again(step: type[ScriptedStep]) -> None:
    asked = step("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    setup = Setup(asked)
    setup.people.people["ann"].version = ""
    assert [setup.chain.walk(request("ws")).account_id for _ in range(2)] == ["ann", "ann"]
    setup.people.people["ann"] = Person("another", version="")
    asked.answer = password_is("web_services", "another's")
    assert not setup.chain.walk(request("ws")).authenticated
    assert setup.chain.walk(request("another's")).account_id == "another"


@pytest.mark.parametrize(
    ("step", "version", "verified"), [(OwnPasswordStep, "", 2), (OwnPasswordStep, "1", 1), (ScriptedStep, "", 1)]
)
def test_own_password_is_cached_only_with_version(step: type[ScriptedStep], version: str, verified: int) -> None:
    asked = step("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    setup = Setup(asked)
    setup.people.people["ann"].version = version
    assert [setup.chain.walk(request("ws")).authenticated for _ in range(2)] == [True, True]
    assert asked.asked == verified


def test_unreadable_account_keeps_the_cached_result() -> None:
    setup, _, second = basic_setup()
    assert setup.chain.walk(request("ws")).authenticated
    setup.people.down = True
    assert setup.chain.walk(request("ws")).unavailable
    setup.people.down = False
    assert setup.chain.walk(request("ws")).authenticated
    assert second.asked == 1


def test_throttled_credentials_reach_no_step() -> None:
    setup, first, second = basic_setup(per_account="3 per 5 minutes")
    for _ in range(3):
        assert not setup.chain.walk(request("wrong")).throttled
    asked = (first.asked, second.asked)
    decision = setup.chain.walk(request("ws"))
    assert decision.throttled
    assert decision.retry_after > 1
    assert (first.asked, second.asked) == asked
    assert setup.chain.walk(request("ws", user="bob")).authenticated
    assert setup.chain.walk(request("ws", address="192.0.2.2")).authenticated


@pytest.mark.parametrize("form", ["192.0.2.1:{}", "[2001:db8::1]:{}", "[2001:db8::{:x}]:40001", "unknown-{}"])
def test_guesses_from_changing_ports_are_throttled(form: str) -> None:
    setup, first, _ = basic_setup(per_account="3 per 5 minutes")
    walks = [setup.chain.walk(request("wrong", address=form.format(40001 + number))) for number in range(8)]
    assert [walk.throttled for walk in walks] == [False] * 3 + [True] * 5
    assert first.asked == 3
    assert setup.failures == 1


def test_success_returns_the_slot() -> None:
    setup, _, _ = basic_setup(per_account="3 per 5 minutes")
    for number in range(8):
        assert setup.chain.walk(request("ws", address="192.0.2.1")).authenticated, number
        setup.verified.clear()


def test_cached_credentials_are_throttled_over_the_limit() -> None:
    setup, _, _ = basic_setup(per_account="2 per 5 minutes")
    assert setup.chain.walk(request("ws")).authenticated
    for _ in range(2):
        setup.chain.walk(request("wrong"))
    assert setup.chain.walk(request("ws")).throttled
    assert setup.chain.walk(request("wrong")).throttled


def test_unavailable_steps_count_no_failure() -> None:
    setup, first, second = basic_setup(per_account="1 per 5 minutes")
    first.answer = second.answer = lambda evidence: Unavailable(Reason.UNREACHABLE)
    for _ in range(4):
        decision = setup.chain.walk(request("ws"))
        assert decision.unavailable
        assert not decision.throttled
    second.answer = password_is("web_services", "ws")
    assert setup.chain.walk(request("ws")).authenticated


def test_rejection_beside_an_outage_counts() -> None:
    setup, first, _ = basic_setup(per_account="1 per 5 minutes")
    first.answer = lambda evidence: Unavailable(Reason.TIMED_OUT)
    assert not setup.chain.walk(request("wrong")).throttled
    assert setup.chain.walk(request("wrong")).throttled


def test_own_slot_is_returned_with_an_account() -> None:
    step = HoldingStep("own", proves("own"))
    step.limit = FailureLimit("2 per 15 minutes")
    setup = Setup(step)
    for _ in range(5):
        assert setup.chain.walk(request()).authenticated
    setup.people.down = True
    for _ in range(5):
        assert setup.chain.walk(request()).steps[0].reason is Reason.ACCOUNTS_UNAVAILABLE
    setup.people.down = False
    setup.people.people["ann"].enabled = False
    reasons = [setup.chain.walk(request()).steps[0].reason for _ in range(3)]
    assert reasons == [Reason.ACCOUNT_DISABLED, Reason.ACCOUNT_DISABLED, Reason.THROTTLED]


@pytest.mark.parametrize(
    ("outcome", "counted"), [(Rejected(Reason.BAD_CREDENTIALS), 1), (Unavailable(Reason.TIMED_OUT), 0)]
)
def test_rejection_counts_despite_a_later_exception(outcome: Outcome, counted: int) -> None:
    def broken(evidence: Evidence) -> Outcome:
        raise ZeroDivisionError

    setup = Setup(ScriptedStep("checks", lambda evidence: outcome, credentials="basic"), ScriptedStep("broken", broken))
    with pytest.raises(ZeroDivisionError):
        setup.chain.walk(request("wrong"))
    assert setup.failures == counted


def test_good_password_returns_the_salesforce_slot() -> None:
    salesforce = ScriptedStep("salesforce", lambda evidence: Rejected(Reason.SESSION_REFUSED), credentials="salesforce")
    second = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic")
    setup = Setup(salesforce, second, per_account="1 per 5 minutes")
    headers = {"ssid": "00D!session", "surl": "https://login.salesforce.com/id/x"}
    for _ in range(3):
        assert setup.chain.walk(request("ws", **headers)).authenticated
    assert salesforce.asked == 3
    assert not setup.chain.walk(request("wrong", **headers)).throttled
    assert setup.chain.walk(request("wrong", **headers)).throttled


def test_dry_run_counts_and_caches_nothing() -> None:
    setup, first, _ = basic_setup(per_account="1 per 5 minutes")
    for _ in range(3):
        assert not setup.chain.walk(request("wrong"), dry_run=True).throttled
    assert setup.chain.walk(request("ws"), dry_run=True).authenticated
    asked = first.asked
    assert setup.chain.walk(request("ws")).authenticated
    assert first.asked == asked + 1


def test_stale_result_leaves_no_slot_taken() -> None:
    refused = ScriptedStep("salesforce", lambda evidence: Rejected(Reason.SESSION_REFUSED), credentials="salesforce")
    setup = Setup(
        refused, ScriptedStep("web_services", password_is("web_services", "pw"), credentials="basic", reuse=60)
    )
    both = {"ssid": "x", "surl": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA"}
    assert setup.chain.walk(request("pw")).authenticated
    assert setup.failures == 0
    setup.people.people["ann"].version = "2"
    setup.chain.walk(request("pw", **both))
    assert refused.asked == 3  # the first walk, what was recalled, and the walk afresh
    assert setup.failures == 0
    assert not setup.chain.walk(request("wrong")).authenticated
    assert setup.failures == 1


def test_unreadable_hash_after_success_is_not_cached() -> None:
    step = FickleStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    setup = Setup(step)

    step.down = True
    assert setup.chain.walk(request("ws")).unavailable
    assert setup.failures == 0
    step.down = False
    assert setup.chain.walk(request("ws")).authenticated
    assert step.asked == 2
