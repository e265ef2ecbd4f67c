"""Says how walks end: to the log, where operators see why, and to the signals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flask import current_app, request

from .. import signals
from ..chain.decision import Rejected, StepRecord, Unavailable
from ..chain.evidence import BasicCredentials, SalesforceCredentials, parse_basic, parse_salesforce
from .runtime import runtime

if TYPE_CHECKING:
    from ..chain.decision import Decision

logger = logging.getLogger("flask_genesys_auth")


def report(decision: Decision, *, user_name: str | None = None) -> None:
    """Log each step that refused or did not answer, and send the signal of the whole.

    :param user_name: the name in question, where it did not come with the request's headers.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
    troubles = [record for record in decision.steps if isinstance(record.outcome, (Rejected, Unavailable))]
    if troubles:
        account = plain(user_name if user_name is not None else _claimed())
        for record in troubles:
            _log(record, decision, account)
    if decision.authenticated:
        signals.authenticated.send(app, decision=decision)
    elif decision.unavailable:
        signals.unavailable.send(app, decision=decision)
    elif troubles:
        signals.rejected.send(app, decision=decision)


def plain(text: str, limit: int = 255) -> str:
    """Return text from outside with control and other unprintable characters shown as escapes, and bounded."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text[:limit])
    return shown[:limit]


def _log(record: StepRecord, decision: Decision, account: str) -> None:
    # A walk that ended well is no trouble, but an operator may ask why an earlier step did not take it.
    level = logging.INFO if decision.authenticated else logging.WARNING
    fields = {
        "event": record.outcome_name,
        "step": record.step,
        "reason": str(record.reason),
        "contact_center": decision.contact_center or "",
        "account": account,
        "address": plain(request.remote_addr or ""),
        "elapsed": round(record.elapsed, 4),
        "detail": plain(getattr(record.outcome, "detail", ""), 500),
    }
    logger.log(
        level,
        "%(event)s by %(step)s: %(reason)s (contact center %(contact_center)r, account %(account)r, "
        "address %(address)s) %(detail)s",
        fields,
        extra={"genesys_auth": fields},
    )


def _claimed() -> str:
    basic = parse_basic(request.headers.get("Authorization"))
    if isinstance(basic, BasicCredentials):
        return basic.name
    names = runtime().settings.salesforce_headers
    shown = parse_salesforce(request.headers.get(names.session), request.headers.get(names.identity))
    if isinstance(shown, SalesforceCredentials) and shown.identity is not None:
        return f"{shown.identity.organization}/{shown.identity.user}"
    return ""
