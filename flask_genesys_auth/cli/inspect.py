"""``endpoints`` and ``explain``: what an endpoint asks for, and how a request would fare."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask, request
from flask.cli import with_appcontext
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..chain.decision import Decision
from ..web import login, origin, refusals
from ..web.access import Policy, policy_of, unknown_endpoints
from ..web.runtime import without_steps
from .common import as_json, parts, print_json, print_table

METHODS_OF_FLASK = frozenset({"HEAD", "OPTIONS"})
_HOST = re.compile(r"[0-9A-Za-z.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _address(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """Return an address as it was given, once it is sure that all of it can be read."""
    try:
        _check_address(text)
    except UnicodeEncodeError:
        raise click.BadParameter("is not UTF-8", context, parameter) from None
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return text


def _check_address(text: str) -> None:
    """Take an address apart as the request is going to.

    :raises ValueError: if that cannot be done.
    """
    text.encode()
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode()
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no address: {error}") from None
    if not text.startswith("/") and parts.scheme not in {"http", "https"}:
        raise ValueError("must be a path such as /agent, or an address by http or https")
    if (parts.netloc and not _HOST.fullmatch(host)) or (parts.scheme and not host) or "@" in parts.netloc:
        raise ValueError("has no host that a request could name")
    if not text.isprintable():
        raise ValueError("has characters that no address has")


@click.command("endpoints", short_help="List every endpoint with its policy.")
@as_json
@with_appcontext
def endpoints(as_json: bool) -> None:
    """List every endpoint with its policy, and what says so."""
    here = parts()
    app = login.current_application()
    found = _endpoints(app)
    for finding in (*without_steps(here), *unknown_endpoints(app)):
        click.echo(f"Warning: {finding}", err=True)
    if as_json:
        print_json(found)
        return
    lines = [(row["endpoint"], row["rule"], ", ".join(row["methods"]), row["policy"], row["source"]) for row in found]
    print_table(("ENDPOINT", "RULE", "METHODS", "POLICY", "SOURCE"), lines)


def _endpoints(app: Flask) -> list[dict[str, Any]]:
    """Return a row for each rule, and one more where methods of a view class have policies of their own."""
    rows = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.endpoint, rule.rule)):
        methods = rule.methods or set()
        shown = sorted(methods - METHODS_OF_FLASK) or sorted(methods)
        by_policy: dict[Policy, list[str]] = {}
        for method in shown:
            by_policy.setdefault(policy_of(app, rule.endpoint, method), []).append(method)
        for policy, named in by_policy.items():
            rows.append(
                {
                    "endpoint": rule.endpoint,
                    "rule": rule.rule,
                    "methods": named,
                    "policy": str(policy),
                    "protected": policy.protected,
                    "roles": sorted(policy.roles),
                    "source": policy.source,
                }
            )
    return rows


@click.command("explain", short_help="Show how a request would fare.")
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("url", callback=_address)
@click.option("-H", "--header", "given", multiple=True, metavar='"NAME: VALUE" | @FILE', help="May be repeated.")
@as_json
@with_appcontext
def explain(method: str, url: str, given: tuple[str, ...], as_json: bool) -> None:
    """Walk the chain as a request would: no failure counts, no session is made or touched.

    Put credentials into a file (-H @FILE, one header per line): other users can read a command line.
    """
    here = parts()
    app = login.current_application()
    headers = _headers(given)
    with app.test_request_context(
        url, method=method.upper(), headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"}
    ):
        decision = here.chain.walk(request, login.login_session_id, dry_run=True)
        # Whatever looks at current_user from here on, a page's template too, must not walk in earnest.
        login.adopt(decision)
        found = _explain(app, decision)
    here.state.close()
    if as_json:
        print_json(found)
    else:
        _print(found)


def _explain(app: Flask, decision: Decision) -> dict[str, Any]:
    rule = request.url_rule
    policy = policy_of(app, rule.endpoint, request.method) if rule is not None else None
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
        "steps": decision.explain(),
        "answer": _answer(policy, decision),
    }


def _answer(policy: Policy | None, decision: Decision) -> dict[str, Any]:
    """Return what the request would meet: a status of ours or of Flask's routing, or the view itself."""
    preflight = origin.preflight()
    if preflight is not None:
        return {"status": preflight.status_code, "by": "CORS preflight"}
    wrong = request.routing_exception
    if isinstance(wrong, RequestRedirect):
        return {"status": wrong.code, "by": "routing", "location": wrong.new_url}
    if wrong is not None:
        return {"status": wrong.code, "by": "routing"}
    if policy is None or not policy.protected or _is_automatic():
        return {"status": None, "by": "view"}
    try:
        _enforce(policy, decision)
    except HTTPException as refusal:
        answer = refusal.get_response(request.environ)
        location = answer.headers.get("Location")
        return {"status": answer.status_code, "by": type(refusal).__name__} | (
            {"location": location} if location else {}
        )
    return {"status": None, "by": "view"}


def _is_automatic() -> bool:
    return request.method == "OPTIONS" and bool(getattr(request.url_rule, "provide_automatic_options", False))


def _enforce(policy: Policy, decision: Decision) -> None:
    origin.check(decision)
    if not decision.authenticated:
        raise refusals.for_anonymous(decision)
    if not policy.roles <= decision.roles:
        raise refusals.RoleRequired(decision)


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
    if found["authenticated"]:
        roles = ", ".join(found["roles"]) or "no roles"
        click.echo(f"authenticated   account {found['account_id']} by {found['authenticated_by']}, {roles}")
    else:
        click.echo("authenticated   no")
    answer = found["answer"]
    status = "the view's own" if answer["status"] is None else f"{answer['status']} ({answer['by']})"
    click.echo(f"answer          {status}" + (f" to {answer['location']}" if "location" in answer else ""))


def _headers(given: tuple[str, ...]) -> Headers:
    """Read headers from arguments and files; what is wrong with one is told without a piece of its value."""
    headers = Headers()
    for place, text in enumerate(given, start=1):
        if text.startswith("@"):
            for number, line in enumerate(_lines_of(text[1:]), start=1):
                if line.strip():
                    _put(headers, line, f"{text[1:]}, line {number}")
        else:
            _put(headers, text, f"-H number {place}")
    return headers


def _lines_of(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise click.ClickException(f"{name}: is not UTF-8") from None
    except OSError as error:
        raise click.ClickException(f"{name}: {error.strerror}") from None


def _put(headers: Headers, line: str, place: str) -> None:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or any(character in value for character in "\r\n\0"):
        raise click.ClickException(f'{place}: is not "Name: value"')
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise click.ClickException(f"{place}: a header carries Latin-1 only") from None
    headers.add(name.strip(), value.strip())
