"""What a request would meet, by its endpoint's policy and its decision."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..chain.outcomes import Decision
from ..web import origin, refusals
from ..web.access import Policy


def answer_to(policy: Policy | None, decision: Decision) -> dict[str, Any]:
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
