"""Reports the outcome of walks, logins and refusals to the log and to the signals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import current_app, has_request_context, request

from .. import signals
from ..chain.evidence import BasicCredentials, SalesforceCredentials, parse_basic, parse_salesforce
from ..chain.outcomes import Reason, Rejected, StepRecord, Unavailable
from ..chain.walk import unavailable_decision
from ..events import Event, is_logged, log_event
from . import refusals
from .runtime import runtime

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.exceptions import HTTPException

    from ..chain.outcomes import Decision, LoginSession
    from ..errors import BackendUnavailable


def report(decision: Decision, *, user_name: str | None = None, app: Flask | None = None) -> None:
    """Log each step that rejected the request or was unavailable, and send the walk's signal.

    :param user_name: the user name, if it is not in the request's headers.
    :param app: the current application, if the caller has it.
    """
    if app is None:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
    failures = [record for record in decision.steps if isinstance(record.outcome, (Rejected, Unavailable))]
    if failures:
        account = user_name if user_name is not None else _claimed_name()
        for record in failures:
            _log_failure(record, decision, account)
    if decision.authenticated:
        # This is the hot path: the fields are collected only if the record is logged.
        if is_logged(Event.AUTHENTICATED):
            record = decision.steps[-1]
            log_event(
                Event.AUTHENTICATED,
                step=record.step,
                outcome=record.outcome_name,
                contact_center=decision.contact_center or "",
                account=decision.account_id or "",
                address=client_address(),
                elapsed=round(sum(one.elapsed for one in decision.steps), 4),
            )
        signals.deliver(signals.authenticated, app, decision=decision)
    elif decision.unavailable:
        signals.deliver(signals.unavailable, app, decision=decision)
    elif failures:
        signals.deliver(signals.rejected, app, decision=decision)


def unavailable(error: BackendUnavailable, step: str = "login_session") -> refusals.DirectoryUnavailable:
    """Report that a store does not answer, and return the refusal (503) for the request.

    :param step: the step that needed the store.
    """
    decision = unavailable_decision(step, error)
    report(decision)
    return refusals.DirectoryUnavailable(decision)


def logged_in(app: Flask, user: Any, account_id: str, contact_center: str, step: str) -> None:
    """Report the start of a login session."""
    log_event(
        Event.LOGGED_IN,
        step=step,
        outcome="authenticated",
        contact_center=contact_center,
        account=account_id,
        address=client_address(),
    )
    signals.deliver(signals.logged_in, app, user=user, contact_center=contact_center, step=step)


def logged_out(app: Flask, ended: LoginSession) -> None:
    """Report the logout of a user."""
    log_event(
        Event.LOGGED_OUT,
        step=ended.step,
        contact_center=ended.contact_center,
        account=ended.account_id,
        address=client_address(),
    )
    signals.deliver(
        signals.logged_out,
        app,
        account_id=ended.account_id,
        contact_center=ended.contact_center,
        step=ended.step,
    )


def session_revoked(app: Flask, account_id: str | None, contact_center: str | None, count: int, *, by: str) -> None:
    """Report the revocation of login sessions.

    :param by: the actor, for the log: ``an administrator``, ``a command``, ``the provider 'okta'``.
    """
    log_event(
        Event.SESSION_REVOKED,
        contact_center=contact_center or "",
        account=account_id or "",
        address=client_address(),
        detail=f"by {by}",
        count=count,
    )
    signals.deliver(signals.session_revoked, app, account_id=account_id, contact_center=contact_center, count=count)


def report_refusal(refusal: HTTPException) -> None:
    """Log the refusal of an authenticated request: a missing role, or a request from another site."""
    if isinstance(refusal, refusals.RoleRequired):
        event, detail = Event.ROLE_REFUSED, f"the user lacks a role for {request.method} {request.endpoint}"
    elif isinstance(refusal, refusals.ForeignOrigin):
        sent = {name: request.headers.get(name, "") for name in ("Origin", "Sec-Fetch-Site")}
        headers = ", ".join(f"{name} {value!r}" for name, value in sent.items() if value) or "no Origin header"
        event, detail = Event.ORIGIN_REFUSED, f"{request.method} {request.endpoint} from another site: {headers}"
    else:
        return
    decision = refusal.decision
    log_event(
        event,
        step=decision.authenticated_by or "",
        outcome="rejected",
        contact_center=decision.contact_center or "",
        account=decision.account_id or "",
        address=client_address(),
        detail=detail,
    )


def client_address() -> str:
    """Return the client address of the current request, or an empty string outside of a request."""
    return (request.remote_addr or "") if has_request_context() else ""


def _log_failure(record: StepRecord, decision: Decision, account: str) -> None:
    event = Event.REJECTED if isinstance(record.outcome, Rejected) else Event.UNAVAILABLE
    if record.reason is Reason.THROTTLED:
        event = Event.THROTTLED
    log_event(
        event,
        # After a success, an operator may still want to know why an earlier step rejected the request.
        level=logging.INFO if decision.authenticated else None,
        step=record.step,
        outcome=record.outcome_name,
        reason=str(record.reason),
        contact_center=decision.contact_center or "",
        account=account,
        address=client_address(),
        elapsed=round(record.elapsed, 4),
        detail=getattr(record.outcome, "detail", ""),
    )


def _claimed_name() -> str:
    basic = parse_basic(request.headers.get("Authorization"))
    if isinstance(basic, BasicCredentials):
        return basic.name
    names = runtime().settings.salesforce_headers
    shown = parse_salesforce(request.headers.get(names.session), request.headers.get(names.identity))
    if isinstance(shown, SalesforceCredentials) and shown.identity is not None:
        return f"{shown.identity.organization}/{shown.identity.user}"
    return ""
