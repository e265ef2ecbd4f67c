"""The load's judges: a portal that lies is found out, each lie by its name; one that tells the truth is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.testing import LoopbackServer
from flask_genesys_auth.testing.server import unused_url

from .client import Client
from .load import Known, Load, Session, Stranger, Visitor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ANN = {"Authorization": "Basic ann"}
Answering = Callable[[Request], Response]


class Portal:
    """As truthful as it is told to be: who Ann is by header or by a cookie that a login has set."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()
        self._made = 0

    def __call__(self, request: Request) -> Response:
        if request.path == "/login":
            self._made += 1
            self.sessions.add(str(self._made))
            answer = Response(status=303)
            answer.set_cookie("session", str(self._made))
            return answer
        if request.path == "/logout":
            self.sessions.discard(request.cookies.get("session", ""))
            return Response(status=303)
        known = "Authorization" in request.headers and request.headers["Authorization"] == "Basic ann"
        return user("ann") if known or request.cookies.get("session") in self.sessions else Response(status=401)


def user(name: str) -> Response:
    return Response(json.dumps({"user": {"userName": name}}))


@contextmanager
def loaded(portal: Answering, *visitors: Visitor, wait: bool = False) -> Iterator[Load]:
    application: WSGIApplication = Request.application(portal)
    with LoopbackServer(application) as server, Load(visitors, lambda _: Client(server.url), pause=0.0) as load:
        if wait:
            load.until_well()
        yield load
        while sum(load.tally.answers.values()) < 100:
            time.sleep(0.01)


def everybody() -> tuple[Visitor, ...]:
    return (
        Known("known", ANN, "ann"),
        Session("session", "ann", "password", turns=3),
        Stranger("stranger", lambda turn: {"Authorization": f"Basic {turn}"}),
    )


def test_the_truth_is_no_finding() -> None:
    with loaded(Portal(), *everybody(), wait=True) as load:
        pass
    tally = load.tally
    assert (tally.wrong, tally.lost, tally.undocumented, tally.troubles) == ([], [], [], {})
    assert set(tally.statuses("known")) == {"200"}
    assert set(tally.statuses("session")) == {"200", "303", "401"}
    assert set(tally.statuses("stranger")) == {"401"}
    assert "wrong 0, lost 0, undocumented 0" in tally.report()


def test_answer_for_another_user_is_a_wrong_decision() -> None:
    with loaded(lambda _: user("bob"), *everybody()) as load:
        pass
    assert "known: ann was taken for bob" in load.tally.wrong
    assert "stranger: bad credentials were taken for bob" in load.tally.wrong


def test_401_for_good_credentials_is_a_wrong_decision() -> None:
    with loaded(lambda _: Response(status=401), *everybody()) as load:
        pass
    assert "known: good credentials of ann were called bad" in load.tally.wrong
    assert "session: the good password of ann was called bad" in load.tally.wrong
    assert load.tally.troubles["known"] > 10
    assert load.tally.troubles["stranger"] == 0


def test_lost_logins_and_surviving_sessions_are_reported() -> None:
    forgetful = Portal()

    def forget(request: Request) -> Response:
        answer = forgetful(request)
        forgetful.sessions.clear()
        return answer

    with loaded(forget, Session("session", "ann", "password")) as load:
        pass
    assert "session: the confirmed login of ann" in load.tally.lost
    with loaded(forget, Session("session", "ann", "password", persists=False)) as load:
        pass
    assert load.tally.lost == []

    clinging = Portal()

    def cling(request: Request) -> Response:
        kept = set(clinging.sessions)
        answer = clinging(request)
        clinging.sessions |= kept
        return answer

    with loaded(cling, Session("session", "ann", "password", turns=1)) as load:
        pass
    assert "session: the ended session of ann was taken" in load.tally.wrong


@pytest.mark.parametrize(
    ("answer", "documented"),
    [
        ({"status": 503, "headers": {"Retry-After": "1"}}, True),
        ({"status": 503}, False),
        ({"status": 429, "headers": {"Retry-After": "1"}}, False),
        ({"status": 500}, False),
        ({"status": 502}, False),
        ({"status": 302}, False),
    ],
)
def test_undocumented_answer_is_a_finding(answer: dict[str, object], documented: bool) -> None:
    with loaded(lambda _: Response(**answer), Known("known", ANN, "ann")) as load:  # type: ignore[arg-type]  # either
        pass
    assert (load.tally.undocumented == []) == documented
    assert load.tally.troubles["known"] > 10


def test_refused_connection_is_a_finding_and_load_continues() -> None:
    url = unused_url()
    with Load([Known("known", ANN, "ann")], lambda _: Client(url)) as load:
        while len(load.tally.undocumented) < 3:
            time.sleep(0.01)
        with pytest.raises(AssertionError, match="not well in 0"):
            load.until_well(0.1)
    assert "ConnectionRefusedError" in load.tally.undocumented[0]


def test_exception_in_a_visitor_is_raised() -> None:
    class Broken(Visitor):
        def turn(self, client: Client, judge: object) -> str:  # type: ignore[override]  # it is broken
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Load([Broken("broken")], lambda _: Client("http://127.0.0.1:1")) as load:
        load.until_well()
