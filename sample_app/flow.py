"""The walk of one request, made ready to be drawn: every step of the flow, reached or not."""

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
        "web_services": ("Web Services", "A Basic header; the account is our own."),
        "login_session": ("Login session", "The session that SAML or the sign-in form has begun."),
        "saml": ("SAML", "The browser goes to the identity provider and comes back."),
    }
)
"""The steps of the flow in their order: what people call them and what they look for."""

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "authenticated": "Authenticated",
        "not_applicable": "Passed on",
        "rejected": "Refused",
        "unavailable": "No answer",
        "not_reached": "Not reached",
        "withheld": "Not shown",
    }
)

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_evidence": "This request carries nothing that the step looks for.",
        "disabled": "Not enabled for this contact center.",
        "browser_login": "A SAML login takes a browser; it ends in a login session.",
        "explicit_credentials": "The credentials that were sent outrank the browser's session.",
        "bad_credentials": "User name and password do not belong together.",
        "malformed_credentials": "The credentials cannot be read.",
        "no_account": "Proven, but nobody here is that person.",
        "account_disabled": "Proven, but the account is disabled.",
        "session_refused": "Salesforce does not accept this session ID.",
        "session_ended": "The session has ended.",
        "throttled": "Too many failures; try again later.",
        "unreachable": "Whom the step asks cannot be reached.",
        "timed_out": "Whom the step asks did not answer in time.",
        "server_error": "Whom the step asks reports an error of its own.",
    }
)
"""The reasons that meet the visitor of a demonstration, in words; the code alone stands for the others."""


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """One step as the page shows it.

    :param outcome: the code, also the style's name.
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
    """Return all steps of the flow as one request met them.

    :param reasons: show the reasons and times, which tell a guesser more than a client may know. Without them,
        somebody who is not authenticated sees no outcome either.
    """
    met = {record.step for record in decision.steps}
    drawn = [_record(record, shown=reasons or decision.authenticated, reasons=reasons) for record in decision.steps]
    rest = [name for name in STEPS if name not in met]
    return drawn + [DrawnStep(*STEPS[name], "not_reached", OUTCOMES["not_reached"]) for name in rest]


def label(step: str | None) -> str:
    """Return what people call a step."""
    return STEPS.get(step or "", (step or "",))[0]


def _record(record: StepRecord, *, shown: bool, reasons: bool) -> DrawnStep:
    title, looks_for = STEPS.get(record.step, (record.step.replace("_", " ").capitalize(), ""))
    outcome = record.outcome_name if shown else "withheld"
    if not reasons:
        return DrawnStep(title, looks_for, outcome, OUTCOMES[outcome])
    reason = str(record.reason or "")
    milliseconds = f"{record.elapsed * 1000:.1f}"
    return DrawnStep(title, looks_for, outcome, OUTCOMES[outcome], reason, REASONS.get(reason, ""), milliseconds)
