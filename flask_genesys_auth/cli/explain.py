"""``explain``: show how a request would be authenticated, or why a SAML login failed, with advice."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from flask import Flask, request
from flask.cli import with_appcontext
from werkzeug.datastructures import Headers
from werkzeug.routing import RequestRedirect

from ..chain.evidence import BasicCredentials, SalesforceCredentials, parse_basic, parse_salesforce, read_address
from ..chain.outcomes import Decision, Identity, NotApplicable, Reason, StepRecord, Unavailable
from ..errors import AccountsUnavailable
from ..events import plain
from ..state.memory import MemoryState
from ..web import refusals
from ..web.access import policy_of
from ..web.browser import login_session_id
from ..web.hooks import adopt
from ..web.runtime import current_application
from . import advice
from .base import as_json, has_own_store, print_json, print_table, require_runtime, utc_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..web.policies import Policy
    from ..web.runtime import Runtime

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_REMOTE_STEPS = {"salesforce", "configuration_server"}
_REFERENCE = re.compile(r"[0-9a-f]{8}")
_LONGEST_TEXT = 2000
_HOST = re.compile(r"[0-9A-Za-z.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def _client(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if not read_address(text):
        raise click.BadParameter("is not an IP address", context, parameter)
    return text


def _url(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    problem = _url_problem(text) if text is not None else ""
    if problem:
        raise click.BadParameter(problem, context, parameter)
    return text


def _url_problem(text: str) -> str:
    """Return why the test request cannot use a URL; empty if it can."""
    if not text.isprintable():
        return "contains characters that are not allowed in a URL"
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode()
        _ = parts.port
    except ValueError as error:
        return f"is not a valid URL: {error}"
    if not text.startswith("/") and parts.scheme not in {"http", "https"}:
        return "must be a path such as /agent, or an http or https URL"
    if (parts.netloc and not _HOST.fullmatch(host)) or (parts.scheme and not host) or "@" in parts.netloc:
        return "has no valid host"
    return ""


def _headers(lines: tuple[str, ...]) -> Headers:
    """Read headers from arguments and files. Errors never show a part of a value."""
    found = Headers()
    for place, text in enumerate(lines, start=1):
        if text.startswith("@"):
            for number, line in enumerate(_lines_of(text[1:]), start=1):
                if line.strip():
                    _add_header(found, line, f"{text[1:]}, line {number}")
        else:
            _add_header(found, text, f"-H number {place}")
    return found


def _lines_of(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: is not UTF-8") from None
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from None


def _add_header(headers: Headers, line: str, place: str) -> None:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or any(character in value for character in "\r\n\0"):
        raise click.UsageError(f'{place}: does not have the form "NAME: VALUE"')
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise click.UsageError(f"{place}: contains characters outside Latin-1") from None
    headers.add(name.strip(), value.strip())


@click.command("explain", short_help="Explain a request or a failed SAML login.")
@click.argument("method", type=click.Choice(_METHODS, case_sensitive=False), required=False, metavar="METHOD")
@click.argument("url", callback=_url, required=False, metavar="URL")
@click.option("-H", "--header", "lines", multiple=True, metavar='"NAME: VALUE" | @FILE', help="Header; repeatable.")
@click.option("--address", default="127.0.0.1", callback=_client, help="Client address for the throttle.")
@click.option("--reference", help="Reference shown on the page of a failed SAML login.")
@as_json
@with_appcontext
def explain(
    method: str | None, url: str | None, lines: tuple[str, ...], address: str, reference: str | None, as_json: bool
) -> None:
    """Walk the chain as a request would, or look up the REFERENCE of a failed SAML login.

    The command sends real requests to Salesforce and Genesys. It counts no failures, and it does not change sessions
    or accounts. Put credentials into a file (-H @FILE, one header per line): other users of this machine can
    read command lines.

    The exit status is 0 for any answer to the request. It is 1 if the command fails or does not find the reference,
    and 2 for a usage error.
    """
    here = require_runtime()
    if reference is not None:
        if method is not None:
            raise click.UsageError("give either METHOD and URL, or --reference")
        failure = _plain(_failure(here, reference))
        print_json(failure) if as_json else _print_failure(failure)
        return
    if method is None or url is None:
        raise click.UsageError("give METHOD and URL, or --reference")
    app = current_application()
    headers = _headers(lines)
    with app.test_request_context(url, method=method.upper(), headers=headers, environ_base={"REMOTE_ADDR": address}):
        decision = here.chain.walk(request, login_session_id, dry_run=True)
        # Templates of refusal pages read current_user, which must not start a real walk.
        adopt(decision)
        found = _plain(_explanation(app, here, decision))
    here.state.close()
    print_json(found) if as_json else _print(found)


def _explanation(app: Flask, here: Runtime, decision: Decision) -> dict[str, Any]:
    rule = request.url_rule
    policy = policy_of(app, rule.endpoint, request.method) if rule is not None else None
    rows = zip(decision.explain(), decision.steps, strict=True)
    return {
        "method": request.method,
        "path": request.path,
        "endpoint": rule.endpoint if rule is not None else None,
        "policy": str(policy) if policy is not None else None,
        "contact_center": decision.contact_center,
        "authenticated": decision.authenticated,
        "authenticated_by": decision.authenticated_by,
        "account_id": decision.account_id,
        "roles": sorted(decision.roles),
        "resumed": decision.resumed,
        "steps": [{**row, **_step_advice(here, record, decision.contact_center)} for row, record in rows],
        "throttle": _throttle(here, decision.contact_center),
        "notes": list(_notes(here, decision)),
        "answer": _answer_to(here, policy, decision),
    }


def _step_advice(here: Runtime, record: StepRecord, contact_center: str | None) -> dict[str, Any]:
    """Return the advice for a step that did not succeed, and how long the throttle or circuit breaker refuses it."""
    reason = record.reason
    if reason is None or isinstance(record.outcome, NotApplicable):
        return {}
    own_store = has_own_store(here)
    if (unknown := _unknown_user(here, record, contact_center)) is not None:
        text = advice.for_reason(Reason.NO_ACCOUNT, contact_center, unknown, own_store=own_store)
        return {"advice": f"No account has this user name. {text}"}
    proven = getattr(record.outcome, "identity", None)
    found = {"advice": advice.for_reason(reason, contact_center, proven, step=record.step, own_store=own_store)}
    if isinstance(record.outcome, Unavailable) and reason in {Reason.THROTTLED, Reason.CIRCUIT_OPEN}:
        found["until"] = utc_time(time.time() + record.outcome.retry_after)
    return found


def _unknown_user(here: Runtime, record: StepRecord, contact_center: str | None) -> Identity | None:
    """Return the identity without an account that the Web Services step rejected; clients see a wrong password."""
    if record.step != "web_services" or record.reason is not Reason.BAD_CREDENTIALS or contact_center is None:
        return None
    basic = parse_basic(request.headers.get("Authorization"))
    if not isinstance(basic, BasicCredentials):
        return None
    named = Identity(step=record.step, contact_center=contact_center, subject=basic.name)
    try:
        return named if here.accounts.find(named) is None else None
    except AccountsUnavailable:
        return None


def _answer_to(here: Runtime, policy: Policy | None, decision: Decision) -> dict[str, Any]:
    """Return the answer to the request: a status of ours or of Flask's routing, or the view."""
    preflight = here.origins.preflight(request)
    if preflight is not None:
        return {"status": preflight.status_code, "by": "CORS preflight"}
    wrong = request.routing_exception
    if isinstance(wrong, RequestRedirect):
        return {"status": wrong.code, "by": "routing", "location": wrong.new_url}
    if wrong is not None:
        return {"status": wrong.code, "by": "routing"}
    automatic = request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False)
    if policy is None or not policy.protected or automatic:
        return {"status": None, "by": "view"}
    if here.origins.is_foreign(request, decision):
        refusal: refusals.Refusal = refusals.ForeignOrigin(decision)
    elif not decision.authenticated or not policy.roles <= decision.roles:
        refusal = refusals.refusal(decision)
    else:
        return {"status": None, "by": "view"}
    answer = refusal.get_response(request.environ)
    location = answer.headers.get("Location")
    found = {"status": answer.status_code, "by": type(refusal).__name__}
    return {**found, "location": location} if location else found


def _throttle(here: Runtime, contact_center: str | None) -> dict[str, Any] | None:
    """Return the state of the throttle's limits for the request's credentials and address."""
    names = here.settings.salesforce_headers
    basic = parse_basic(request.headers.get("Authorization"))
    salesforce = parse_salesforce(request.headers.get(names.session), request.headers.get(names.identity))
    if contact_center is None or not isinstance(basic or salesforce, (BasicCredentials, SalesforceCredentials)):
        return None
    name = basic.name if isinstance(basic, BasicCredentials) else ""
    address = request.remote_addr or ""
    found = here.throttle.statuses(contact_center, name, address)
    shared = here.throttle.ledger.shared
    about: dict[str, Any] = {"address": address, "counted": "by all nodes" if shared else "by each process"}
    if isinstance(found, Unavailable):
        return {**about, "limits": [], "error": found.detail}
    now = time.time()
    limits = [
        {"limit": one.name, "allows": one.allows, "until": utc_time(now + one.wait) if one.wait else None}
        for one in found
    ]
    return {**about, "limits": limits}


def _notes(here: Runtime, decision: Decision) -> Iterator[str]:
    """Yield what this command cannot know: state in the memory of the server processes."""
    tried = {one.step: one.outcome for one in decision.steps if not isinstance(one.outcome, NotApplicable)}
    if tried.keys() & _REMOTE_STEPS:
        yield (
            "each process has its own circuit breakers: a server process may refuse calls (circuit_open) that this "
            "command makes; see its log (circuit_opened, circuit_closed)"
        )
    if tried.keys() - {"login_session"} and not here.throttle.ledger.shared:
        yield (
            "each process counts failures in its own memory: a server process may throttle a request that this command "
            "does not (throttled); see its log"
        )
    if isinstance(here.state, MemoryState):
        yield "the state is in the memory of each process: this command does not know the login sessions of the server"


def _failure(here: Runtime, reference: str) -> dict[str, Any]:
    """Return the stored SAML failure, with advice.

    :raises click.ClickException: if none is stored under the reference.
    """
    wanted = reference.strip().lower()
    if not _REFERENCE.fullmatch(wanted):
        raise click.UsageError("--reference: must be the 8 hexadecimal digits that the page shows")
    found = here.saml.failures.find(wanted)
    here.state.close()
    if found is None:
        why = "it is older than 24 hours, was over the limit for stored failures, or is in another state store"
        if isinstance(here.state, MemoryState):
            why = "the state is in the memory of the server process"
        raise click.ClickException(f"reference {wanted} not found ({why}); search the server's log for it")
    center, provider = str(found.get("contact_center")), str(found.get("provider"))
    return {
        "reference": wanted,
        **found,
        "time": utc_time(float(found.get("time", 0.0))),
        "advice": advice.for_fault(str(found.get("reason")), center, provider, own_store=has_own_store(here)),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value, _LONGEST_TEXT)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _print(found: dict[str, Any]) -> None:
    click.echo(f"{found['method']} {found['path']}")
    click.echo(f"endpoint        {found['endpoint'] or 'none'}" + (f": {found['policy']}" if found["policy"] else ""))
    click.echo(f"contact center  {found['contact_center'] or 'none'}")
    click.echo()
    print_table(
        ("STEP", "OUTCOME", "REASON", "MS", "DETAIL"),
        [
            (row["step"], row["outcome"], row.get("reason", ""), str(row["milliseconds"]), row.get("detail", ""))
            for row in found["steps"]
        ],
    )
    click.echo()
    for row in found["steps"]:
        if "advice" in row:
            until = f"until {row['until']}. " if "until" in row else ""
            click.echo(f"{row['step']}: {until}{row['advice']}")
    _print_throttle(found["throttle"])
    for note in found["notes"]:
        click.echo(f"note: {note}")
    click.echo()
    if found["authenticated"]:
        roles = ", ".join(found["roles"]) or "no roles"
        click.echo(f"authenticated   account {found['account_id']} by {found['authenticated_by']}, {roles}")
    else:
        click.echo("authenticated   no")
    answer = found["answer"]
    status = "from the view" if answer["status"] is None else f"{answer['status']} ({answer['by']})"
    click.echo(f"answer          {status}" + (f" to {answer['location']}" if "location" in answer else ""))


def _print_throttle(found: dict[str, Any] | None) -> None:
    if found is None:
        return
    shown = [
        f"{one['limit']} ({one['allows']}) " + (f"reached until {one['until']}" if one["until"] else "not reached")
        for one in found["limits"]
    ]
    click.echo(
        f"throttle: at {found['address']}, counted {found['counted']}: {', '.join(shown) or found.get('error', '')}"
    )


def _print_failure(found: dict[str, Any]) -> None:
    for name in ("reference", "time", "about", "contact_center", "provider", "address", "reason", "detail", "advice"):
        click.echo(f"{name.replace('_', ' '):<16}{found.get(name, '')}".rstrip())
