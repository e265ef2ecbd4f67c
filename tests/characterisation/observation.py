"""One row of the table: what has happened before, the request, and everything that can be seen of its answer."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_genesys_auth import Decision

from .deployment import GENESYS_PASSWORD, OWN_PASSWORD, Application, Deployment, User, name_of

ADDRESS = "192.0.2.7"
ELSEWHERE = ("198.51.100.1", "198.51.100.2")
HEADERS = ("WWW-Authenticate", "Location", "Vary", "Cache-Control", "Access-Control-Allow-Origin")
ATTEMPTS = 6
"""More than any limit of the table allows."""
PROMPT = 2.9
"""Seconds within which a row must be observed that counts on the pause of a circuit, or on a short time limit.

One in which a server hangs takes twice ``SHORT``; had another server been too slow for that, three times.
"""

Row = dict[str, Any]


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


EVIDENCE: Mapping[str, Callable[[Deployment], dict[str, str]]] = {
    "none": lambda deployment: {},
    "basic for Genesys": lambda deployment: basic("ann", GENESYS_PASSWORD),
    "basic for Web Services": lambda deployment: basic("ann", OWN_PASSWORD),
    "basic wrong": lambda deployment: basic("ann", "wrong"),
    "basic other spelling": lambda deployment: basic("ANN", OWN_PASSWORD),
    "basic unknown user": lambda deployment: basic("eve", "wrong"),
    "basic empty password": lambda deployment: basic("ann", ""),
    "basic malformed": lambda deployment: {"Authorization": "Basic %%%"},
    "basic control character": lambda deployment: basic("ann\x00", OWN_PASSWORD),
    "basic of acme": lambda deployment: basic("ACME\\ann", OWN_PASSWORD),
    "basic of globex": lambda deployment: basic("GLOBEX\\gus", OWN_PASSWORD),
    "basic at globex": lambda deployment: basic("gus@globex.example", OWN_PASSWORD),
    "basic supervisor": lambda deployment: basic("sue", OWN_PASSWORD),
    "basic gus": lambda deployment: basic("gus", GENESYS_PASSWORD),
    "bearer": lambda deployment: {"Authorization": "Bearer abc"},
    "salesforce": lambda deployment: deployment.session,
    "salesforce ended session": lambda deployment: deployment.ended_session,
    "salesforce malformed url": lambda deployment: {**deployment.session, "surl": "https://["},
    "salesforce session alone": lambda deployment: {"ssid": deployment.session["ssid"]},
    "salesforce url alone": lambda deployment: {"surl": deployment.session["surl"]},
    "salesforce foreign host": lambda deployment: {
        **deployment.session,
        "surl": deployment.session["surl"].replace(deployment.salesforce.url, "https://login.example"),
    },
    "salesforce foreign organization": lambda deployment: {
        **deployment.session,
        "surl": deployment.session["surl"].replace("00D000000000001EAA", "00D000000000009EAA"),
    },
    "salesforce of globex": lambda deployment: {
        **deployment.session,
        "surl": deployment.session["surl"].replace("00D000000000001EAA", "00D000000000002EAA"),
    },
    "salesforce at the refusing server": lambda deployment: {
        **deployment.session,
        "surl": deployment.session["surl"].replace(deployment.salesforce.url, deployment.refusing),
    },
    "contact center acme": lambda deployment: {"ContactCenterId": "acme"},
    "contact center globex": lambda deployment: {"ContactCenterId": "globex"},
    "contact center unknown": lambda deployment: {"ContactCenterId": "initech"},
    "host acme": lambda deployment: {"Host": "acme.example"},
    "host globex": lambda deployment: {"Host": "globex.example"},
    "host unknown": lambda deployment: {"Host": "initech.example"},
    "garbage cookie": lambda deployment: {"Cookie": "session=garbage"},
}
"""What a request may carry, by its name in the table; extra steps read ``extra OUTCOME``."""

CLIENTS: Mapping[str, dict[str, str]] = {
    "api": {},
    "xhr": {"X-Requested-With": "XMLHttpRequest"},
    "fetch": {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"},
    "navigation": {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"},
    "old browser": {"Accept": "text/html,*/*;q=0.8"},
    "own page": {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    "other site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "allowed site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://desk.acme.example"},
}
"""Who asks."""


@dataclass(frozen=True)
class Case:
    """What one row is about.

    :param application: a configuration (see ``Deployment.application``).
    :param before: what has happened already, in this order (see :data:`BEFORE`).
    :param evidence: names of :data:`EVIDENCE`.
    :param form: the name and the password that a login form sends.
    """

    group: str
    application: str
    evidence: tuple[str, ...] = ("none",)
    before: tuple[str, ...] = ()
    path: str = "/protected"
    method: str = "GET"
    client: str = "api"
    form: tuple[str, str] | None = None

    @property
    def id(self) -> str:
        parts = [self.application, ", ".join(self.before), " + ".join(self.evidence)]
        if self.form is not None:
            parts.append(f"form {' '.join(self.form)}")
        return " | ".join([self.group, *(one for one in parts if one), f"{self.client} {self.method} {self.path}"])

    @property
    def prompt(self) -> bool:
        """Return whether the row counts on being observed before a pause or a short time limit is over."""
        return any("circuit" in one for one in self.before) or "hangs" in self.application


class Bench:
    """Observes one case after the other.

    :param deployment: shared by all of them.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def observe(self, case: Case) -> Row:
        """Return the row of a case; one that came too late for its pause is observed again."""
        for _ in range(5):
            row, seconds = _Observation(self.deployment, case).row()
            if not case.prompt or seconds < PROMPT:
                break
        return row


class _Observation:
    """One case under observation."""

    def __init__(self, deployment: Deployment, case: Case) -> None:
        self.deployment = deployment
        self.case = case
        self.application: Application = deployment.application(case.application)
        deployment.begin_anew(self.application)
        self.client: FlaskClient = self.application.app.test_client()

    def row(self) -> tuple[Row, float]:
        """Return what was seen, and the seconds that it took."""
        began = time.monotonic()
        for name in self.case.before:
            BEFORE[name](self)
        # A form is no request that explain knows, and to it a view is a view, synchronous or not.
        explained = {} if self.case.form or self.case.path.endswith("-async") else self._explained()
        self.deployment.forget(self.application)
        found = self._seen(self.send())
        if explained and explained.get("steps") == found.get("steps"):
            explained["steps"] = "the same"
        row = _without_empty({**found, "explain": explained, "left": self._left()})
        return row, time.monotonic() - began

    def headers(self) -> dict[str, str]:
        found = dict(CLIENTS[self.case.client])
        for name in self.case.evidence:
            if name.startswith("extra "):
                found["X-Extra"] = name.removeprefix("extra ")
            elif name != "cookie":
                found.update(EVIDENCE[name](self.deployment))
        return found

    def send(self, headers: Mapping[str, str] | None = None, *, address: str = ADDRESS, fresh: bool = False) -> Any:
        """Send the request of the case.

        :param headers: other ones than the case's.
        :param fresh: by a client without cookies, as an API call of its own.
        """
        case, client = self.case, self.client
        if fresh:
            return self.application.app.test_client(use_cookies=False).get(
                "/protected", headers=dict(headers or {}), environ_overrides={"REMOTE_ADDR": address}
            )
        if self.case.evidence == ("garbage cookie",):
            client = self.application.app.test_client(use_cookies=False)
        form = {"name": case.form[0], "password": case.form[1]} if case.form else None
        return client.open(
            case.path,
            method=case.method,
            data=form,
            headers=self.headers() if headers is None else dict(headers),
            environ_overrides={"REMOTE_ADDR": address},
        )

    def log_in(self, name: str) -> None:
        """Give the client a login session of this user."""
        answer = self.client.post(f"/log-in-as/{name}", environ_overrides={"REMOTE_ADDR": ADDRESS})
        assert answer.status_code == 200, answer.text

    def _seen(self, answer: TestResponse) -> Row:
        decision = self.application.decision
        deployment = self.deployment
        headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        if "Retry-After" in answer.headers:
            headers["Retry-After"] = _retry_after(answer.headers["Retry-After"], _steps(decision) or [])
        cookies = [_cookie(one) for one in answer.headers.getlist("Set-Cookie")]
        body = answer.get_json(silent=True)
        return {
            "status": answer.status_code,
            "statusCode": body.get("statusCode") if isinstance(body, dict) else None,
            "type": None if isinstance(body, dict) else answer.mimetype,
            "user": body.get("user") if isinstance(body, dict) else None,
            "headers": headers,
            "cookies": cookies,
            "steps": _steps(decision),
            "decision": _summary(decision),
            "signals": list(self.application.signals),
            "log": list(deployment.events.lines),
            "asked": {**self._asked(), "accounts": deployment.accounts.accounts_asked or None},
        }

    def _asked(self) -> Row:
        """Return how often each directory was asked, without those that were not."""
        deployment = self.deployment
        return {
            "salesforce": deployment.salesforce.count or None,
            "genesys": deployment.genesys.count or None,
            "passwords": deployment.accounts.passwords_asked or None,
        }

    def _explained(self) -> Row:
        """Return what ``explain`` says of the same request."""
        self.deployment.forget(self.application)
        headers = self.headers()
        cookie = self.client.get_cookie("session")
        if cookie is not None and "Cookie" not in headers:
            headers["Cookie"] = f"session={cookie.value}"
        host = headers.pop("Host", "localhost")
        arguments = [f"--header={name}: {value}" for name, value in headers.items()]
        url = f"http://{host}{self.case.path}"
        done = self.application.run("explain", self.case.method, url, *arguments, "--address", ADDRESS, "--json")
        if done.exit_code or done.exception:
            return {"exit status": done.exit_code, "raised": type(done.exception).__name__}
        said = json.loads(done.stdout)
        throttle = said["throttle"] or {"limits": []}
        return {
            "steps": [" ".join([row["step"], row["outcome"], row.get("reason", "")]).strip() for row in said["steps"]],
            "answer": said["answer"],
            "used up": [one["limit"] for one in throttle["limits"] if one["until"]],
            "asked": self._asked(),
            "log": list(self.deployment.events.lines),
        }

    def _left(self) -> Row:
        """Return how many wrong attempts still pass, for the account and for the address, once all servers answer."""
        deployment = self.deployment
        deployment.recover()
        deployment.genesys.forget()
        if self.application.reads_basic:
            account = self._attempts(lambda number: basic("ann", f"wrong {number}"))
            asked = deployment.genesys.count
            others = self._attempts(lambda number: basic(f"eve{number}", "wrong"))
            return {"account": account, "address": account + others, "genesys": asked}
        ended = deployment.ended_session
        return {"address": self._attempts(lambda number: {**ended, "ssid": f"{ended['ssid']}{number}"})}

    def _attempts(self, headers: Callable[[int], dict[str, str]]) -> int:
        """Return how many of these attempts a step rejects before all of them are throttled."""
        for number in range(ATTEMPTS):
            self.send(headers(number), fresh=True)
            decision = self.application.decision
            if not any("rejected" in step for step in _steps(decision) or []):
                return number
        return ATTEMPTS


def _without_empty(row: Row) -> Row:
    """Remove empty values: no cookies, no events, no calls of servers."""
    found = {name: _without_empty(value) if isinstance(value, dict) else value for name, value in row.items()}
    return {name: value for name, value in found.items() if value not in (None, [], {}, "")}


def _retry_after(value: str, steps: list[str]) -> str:
    """Return the header as it is, unless a clock or chance has a part in it."""
    varies = any(one.endswith((" throttled", " circuit_open")) for one in steps)
    return "seconds" if varies and int(value) >= 1 else value


def _cookie(header: str) -> str:
    """Return a cookie's name and what guards it, without its value and its end."""
    name, *attributes = (one.strip() for one in header.split(";"))
    kept = [one for one in attributes if one.lower().startswith(("httponly", "secure", "samesite"))]
    ended = ["deleted"] if "01 Jan 1970" in header else []
    return "; ".join([name.partition("=")[0], *ended, *sorted(kept)])


def _steps(decision: Decision[User] | None) -> list[str] | None:
    if decision is None:
        return None
    return [f"{one.step} {one.outcome_name} {one.reason or ''}".strip() for one in decision.steps]


def _summary(decision: Decision[User] | None) -> str | None:
    if decision is None:
        return None
    if not decision.authenticated:
        return f"anonymous of {decision.contact_center}"
    resumed = " resumed" if decision.resumed else ""
    roles = " ".join(["", *sorted(decision.roles)])
    return f"{name_of(decision.user)} of {decision.contact_center} by {decision.authenticated_by}{resumed}{roles}"


FAULTS: Mapping[str, Mapping[str, Any]] = {
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"Retry-After": "30"}},
    "closes": {"close": True},
    "garbage": {"body": "<html>"},
    "redirects": {"status": 302, "headers": {"Location": "https://elsewhere.example/"}},
    "hangs": {"hang": True},
}
"""How a server may fail."""


def _fail(server: str, fault: Mapping[str, Any]) -> Callable[[_Observation], None]:
    return lambda case: getattr(case.deployment, server).fail(**fault)


def _open_circuit(server: str) -> Callable[[_Observation], None]:
    """Send requests of many users from many addresses to a failing server until its circuit opens."""

    def happen(case: _Observation) -> None:
        getattr(case.deployment, server).fail(close=True)
        for number in range(30):
            headers = basic(f"user{number}", "a password")
            if server == "salesforce":
                session = case.deployment.session
                headers = {**session, "ssid": f"{session['ssid']}{number}"}
            case.send(headers, address=f"203.0.113.{number}", fresh=True)
            if any("circuit_open" in step for step in _steps(case.application.decision) or []):
                return
        raise AssertionError(f"the circuit of {server} stays closed")

    return happen


def _wrong(times: int, *, address: str = ADDRESS) -> Callable[[_Observation], None]:
    def happen(case: _Observation) -> None:
        for number in range(times):
            case.send(basic("ann", f"guess {number}"), address=address, fresh=True)

    return happen


def _wrong_of_others(times: int) -> Callable[[_Observation], None]:
    def happen(case: _Observation) -> None:
        for number in range(times):
            case.send(basic(f"user{number}", "a guess"), fresh=True)

    return happen


def _change(**changes: Any) -> Callable[[_Observation], None]:
    def happen(case: _Observation) -> None:
        for name in ("ann", "sue"):
            case.deployment.accounts.change(name, **changes)

    return happen


def _absent(case: _Observation) -> None:
    for name in ("ann", "sue"):
        del case.deployment.accounts.users[name]


def _command(*arguments: str, stdin: str = "") -> Callable[[_Observation], None]:
    def happen(case: _Observation) -> None:
        done = case.application.run("accounts", *arguments, stdin=stdin)
        assert done.exit_code == 0, done.output

    return happen


def _remembered(case: _Observation) -> None:
    case.send()


def _asked_elsewhere(case: _Observation) -> None:
    case.send(address=ELSEWHERE[0])


def _accounts_down(case: _Observation) -> None:
    case.deployment.accounts.accounts_down = True


def _state_down(case: _Observation) -> None:
    case.deployment.state.down = True


def _passwords_down(case: _Observation) -> None:
    case.deployment.accounts.passwords_down = True


def _revoked(case: _Observation) -> None:
    with case.application.app.app_context():
        assert case.application.auth.revoke(account_id="ann") == 1


BEFORE: Mapping[str, Callable[[_Observation], None]] = {
    "the same request": _remembered,
    "the same request elsewhere": _asked_elsewhere,
    "login of ann": lambda case: case.log_in("ann"),
    "login of bob": lambda case: case.log_in("bob"),
    "login of sue": lambda case: case.log_in("sue"),
    "login of gus": lambda case: case.log_in("gus"),
    "sessions revoked": _revoked,
    "account absent": _absent,
    "account disabled": _change(is_active=False),
    "account of globex": _change(contact_center="globex"),
    "account of no contact center": _change(contact_center=None),
    "account with another password": _change(version="2", password=""),
    "account a supervisor": _change(roles=frozenset({"ROLE_SUPERVISOR"})),
    "command disable": _command("disable", "acme", "ann"),
    "command delete": _command("delete", "acme", "ann"),
    "command roles": _command("roles", "acme", "ann", "ROLE_SUPERVISOR"),
    "command set-password": _command("set-password", "acme", "ann", "--password-stdin", stdin="another password"),
    "accounts down": _accounts_down,
    "passwords down": _passwords_down,
    "state down": _state_down,
    "2 wrong": _wrong(2),
    "3 wrong": _wrong(3),
    "2 wrong elsewhere": _wrong(2, address=ELSEWHERE[0]),
    "2 wrong at a third place": _wrong(2, address=ELSEWHERE[1]),
    "5 wrong of others": _wrong_of_others(5),
    **{
        f"{server} {fault}": _fail(server, how) for server in ("salesforce", "genesys") for fault, how in FAULTS.items()
    },
    "salesforce circuit open": _open_circuit("salesforce"),
    "genesys circuit open": _open_circuit("genesys"),
}
"""What may have happened before the request of a row."""
