"""Requests with the same credentials share one verification."""

from __future__ import annotations

import threading

import pytest
from werkzeug.wrappers import Request

from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import (
    Authenticated,
    Decision,
    Identity,
    NotApplicable,
    Outcome,
    Reason,
    Rejected,
    Unavailable,
)
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.limits.gate import MAX_SLOW_FOLLOWERS
from tests.chain.scripted import (
    Answer,
    FickleStep,
    HoldingStep,
    ScriptedStep,
    Setup,
    password_is,
    proves,
    request,
)


def test_exception_returns_slots_and_releases_followers() -> None:
    broken = iter([True])

    def breaks_once(evidence: Evidence) -> Outcome:
        if next(broken, False):
            raise ZeroDivisionError
        return password_is("own", "ws")(evidence)

    pause = Pause(breaks_once)
    away = ScriptedStep("salesforce", lambda evidence: Unavailable(Reason.TIMED_OUT), credentials="salesforce")
    step = HoldingStep("own", pause, credentials="basic")
    step.limit = FailureLimit("1 per 15 minutes")
    setup = Setup(away, step, per_account="2 per 5 minutes")
    both = {"ssid": "x", "surl": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA"}
    ended: list[BaseException | Decision] = []

    def walk(**headers: str) -> None:
        try:
            ended.append(setup.chain.walk(request("ws", **headers)))
        except ZeroDivisionError as error:
            ended.append(error)

    threads = [threading.Thread(target=walk, kwargs=headers) for headers in (both, {})]
    threads[0].start()
    assert pause.begun.wait(20)
    threads[1].start()
    for _ in range(3):  # the kinds of credentials that the two requests bring
        assert setup.verified.joined.acquire(timeout=20)
    pause.opened.set()
    for thread in threads:
        thread.join()
    # The follower verifies for itself, and neither limit has a slot less, or it would be throttled.
    assert sorted(type(one).__name__ for one in ended) == ["Decision", "ZeroDivisionError"]
    assert [one.authenticated for one in ended if isinstance(one, Decision)] == [True]
    assert setup.failures == 0
    assert setup.chain.walk(request("ws")).authenticated
    # A wrong password counts in both as always.
    assert not setup.chain.walk(request("wrong")).throttled
    assert setup.chain.walk(request("ws")).throttled


class Pause:
    """Lets the steps of a test begin, and end only when all others have come."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.begun = threading.Event()
        self.opened = threading.Event()

    def __call__(self, evidence: Evidence) -> Outcome:
        self.begun.set()
        assert self.opened.wait(20)
        return self.answer(evidence)


def at_once(setup: Setup, pause: Pause, first: Request, *others: Request, turned_away: int = 0) -> list[Decision]:
    """Walk for the first, then, while its step is being asked, for the others; return all decisions.

    :param turned_away: how many of them do not wait.
    """
    found: dict[int, Decision] = {}
    ended = threading.Semaphore(0)

    def walk(place: int, sent: Request) -> None:
        found[place] = setup.chain.walk(sent)
        ended.release()

    threads = [threading.Thread(target=walk, args=each) for each in enumerate((first, *others))]
    threads[0].start()
    assert pause.begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    for _ in threads:
        assert setup.verified.joined.acquire(timeout=20)
    for _ in range(turned_away):
        assert ended.acquire(timeout=20)
    pause.opened.set()
    for thread in threads:
        thread.join()
    return [found[place] for place in sorted(found)]


def test_few_requests_wait_for_a_slow_verification() -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic")
    setup = Setup(step, follower_wait=0.0)
    decisions = at_once(setup, pause, *(request("ws") for _ in range(20)), turned_away=19 - MAX_SLOW_FOLLOWERS)
    served = [decision for decision in decisions if decision.authenticated]
    sent_away = [decision for decision in decisions if decision.unavailable]
    assert (len(served), len(sent_away)) == (1 + MAX_SLOW_FOLLOWERS, 19 - MAX_SLOW_FOLLOWERS)
    assert {decision.steps[-1].reason for decision in sent_away} == {Reason.UPSTREAM_BUSY}
    assert step.asked == 1
    # No request holds a place or a slot any longer.
    pause.opened.clear()
    pause.begun.clear()
    again = at_once(setup, pause, *(request("ws") for _ in range(1 + MAX_SLOW_FOLLOWERS)))
    assert all(decision.authenticated for decision in again)


@pytest.mark.parametrize(("password", "known"), [("ws", True), ("wrong", False)])
@pytest.mark.parametrize("reuse", [0.0, 60.0])
def test_same_credentials_cost_one_verification(password: str, known: bool, reuse: float) -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=reuse)
    setup = Setup(step, per_account="2 per 5 minutes")
    decisions = at_once(setup, pause, *(request(password) for _ in range(20)))
    assert [decision.authenticated for decision in decisions] == [known] * 20
    assert not any(decision.throttled for decision in decisions)
    assert step.asked == 1
    # One guess was one failure; the next walk verifies again, or uses the cache.
    assert setup.chain.walk(request("ws")).authenticated
    assert step.asked == (1 if known and reuse else 2)


@pytest.mark.parametrize("holds", [True, False])
def test_followers_share_only_a_valid_success(holds: bool) -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = FickleStep("web_services", pause, credentials="basic", reuse=60)
    step.holds = holds
    setup = Setup(step)
    decisions = at_once(setup, pause, *(request("ws") for _ in range(5)))
    assert [decision.authenticated for decision in decisions] == [holds] * 5
    assert step.asked == 1
    assert setup.failures == (0 if holds else 1)
    assert setup.chain.walk(request("ws")).authenticated is holds
    assert step.asked == (1 if holds else 2)


def test_different_credentials_do_not_wait() -> None:
    pause = Pause(password_is("web_services", "ws"))
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=60)
    setup = Setup(step)
    others = (request("wrong"), request("ws", user="bob"), request("ws", address="192.0.2.2"))
    decisions = at_once(setup, pause, request("ws"), *others)
    assert [decision.authenticated for decision in decisions] == [True, False, True, True]
    assert step.asked == 4


def test_exception_makes_followers_verify_themselves() -> None:
    broken = iter([True])

    def breaks_once(evidence: Evidence) -> Outcome:
        if next(broken, False):
            raise RuntimeError("a bug in an extra step")
        return Authenticated(Identity("web_services", "acme", "ann"))

    pause = Pause(breaks_once)
    step = ScriptedStep("web_services", pause, credentials="basic", reuse=60)
    setup = Setup(step)
    outcome: list[BaseException | Decision] = []

    def first() -> None:
        try:
            outcome.append(setup.chain.walk(request("ws")))
        except RuntimeError as error:
            outcome.append(error)

    leader = threading.Thread(target=first)
    leader.start()
    assert pause.begun.wait(20)
    follower = threading.Thread(target=lambda: outcome.append(setup.chain.walk(request("ws"))))
    follower.start()
    for _ in range(2):
        assert setup.verified.joined.acquire(timeout=20)
    pause.opened.set()
    leader.join()
    follower.join()
    decisions = [one for one in outcome if isinstance(one, Decision)]
    assert len(outcome) == 2
    assert [decision.authenticated for decision in decisions] == [True]
    assert step.asked == 2


def test_success_by_other_credentials_shares_no_result() -> None:
    pause = Pause(lambda evidence: Rejected(Reason.BAD_CREDENTIALS))
    first = ScriptedStep("configuration_server", pause, credentials="basic", reuse=60)
    badge = ScriptedStep(
        "badge", lambda evidence: proves("badge", "bob")(evidence) if evidence.salesforce else NotApplicable()
    )
    last = ScriptedStep("web_services", password_is("web_services", "ws"), credentials="basic", reuse=60)
    setup = Setup(first, badge, last)
    decisions = at_once(setup, pause, request("ws", ssid="x", surl="y"), request("ws"))
    assert [decision.authenticated_by for decision in decisions] == ["badge", "web_services"]
    assert (first.asked, last.asked) == (2, 1)
