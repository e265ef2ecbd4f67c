"""The walk of one request, prepared for display: every step of the flow, reached or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flask_genesys_auth import Decision
from flask_genesys_auth.chain.outcomes import StepRecord

STEPS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "salesforce": ("Salesforce", "Two headers: a Salesforce session ID and an identity URL."),
        "configuration_server": (
            "Configuration Server",
            "A Basic header, where this contact center has it enabled.",
        ),
        "web_services": ("Web Services", "A Basic header, checked against the built-in accounts."),
        "login_session": ("Login session", "A session that SAML or the sign-in form began."),
        "saml": ("SAML", "The browser goes to the identity provider and comes back."),
    }
)
"""The steps of the flow in their order: title and evidence."""

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "authenticated": "Authenticated",
        "not_applicable": "Passed on",
        "rejected": "Rejected",
        "unavailable": "Unavailable",
        "not_reached": "Not reached",
        "withheld": "Not shown",
    }
)

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_evidence": "The request has no credentials for this step.",
        "disabled": "Not enabled for this contact center.",
        "browser_login": "A SAML login needs a browser and creates a login session.",
        "explicit_credentials": "The request's credentials override the browser's session.",
        "bad_credentials": "The user name or password is wrong.",
        "malformed_credentials": "The credentials cannot be parsed.",
        "no_account": "The credentials are valid, but there is no account for them.",
        "account_disabled": "The credentials are valid, but the account is disabled.",
        "session_refused": "Salesforce does not accept this session ID.",
        "session_ended": "The session has ended.",
        "throttled": "Too many failed attempts; try again later.",
        "unreachable": "The server of this step cannot be reached.",
        "timed_out": "The server of this step timed out.",
        "server_error": "The server of this step reported an error.",
    }
)
"""The reasons that occur in the demonstration, in words; for others, the page shows the code."""


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """One step as the page shows it.

    :param outcome: the code, which is also the name of the style.
    :param milliseconds: such as ``"1.2"``, or empty.
    """

    title: str
    looks_for: str
    outcome: str
    verdict: str
    reason: str = ""
    reason_in_words: str = ""
    milliseconds: str = ""


def draw(decision: Decision, *, reasons: bool) -> list[DrawnStep]:
    """Return all steps of the flow with their outcomes in one request.

    :param reasons: show reasons and times, which would help an attacker. Without them, an anonymous client does not
        see the outcomes either.
    """
    met = {record.step for record in decision.steps}
    drawn = [_record(record, shown=reasons or decision.authenticated, reasons=reasons) for record in decision.steps]
    rest = [name for name in STEPS if name not in met]
    return drawn + [DrawnStep(*STEPS[name], "not_reached", OUTCOMES["not_reached"]) for name in rest]


def label(step: str | None) -> str:
    """Return the title of a step."""
    return STEPS.get(step or "", (step or "",))[0]


def _record(record: StepRecord, *, shown: bool, reasons: bool) -> DrawnStep:
    title, looks_for = STEPS.get(record.step, (record.step.replace("_", " ").capitalize(), ""))
    outcome = record.outcome_name if shown else "withheld"
    if not reasons:
        return DrawnStep(title, looks_for, outcome, OUTCOMES[outcome])
    reason = str(record.reason or "")
    milliseconds = f"{record.elapsed * 1000:.1f}"
    return DrawnStep(title, looks_for, outcome, OUTCOMES[outcome], reason, REASONS.get(reason, ""), milliseconds)
