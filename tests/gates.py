"""The credential gate in front of one step, for tests of steps without a chain."""

from __future__ import annotations

from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import Authenticated, Outcome, Reason, Rejected
from flask_genesys_auth.chain.protocols import AccountState, Step
from flask_genesys_auth.config.settings import ThrottleSettings
from flask_genesys_auth.limits import FailureThrottle
from flask_genesys_auth.limits.gate import CredentialGate, VerifiedCredentials
from flask_genesys_auth.state.memory import MemoryState


def ask(step: Step, evidence: Evidence, contact_center: ContactCenter, *, account: bool) -> Outcome:
    """Ask a step as a walk does that has seen no credentials before, and settle its slots.

    :param account: whether a proven identity has an account here.
    """
    gate = CredentialGate(FailureThrottle(ThrottleSettings(), MemoryState("test")), VerifiedCredentials())
    with gate.open(evidence, contact_center, use_cache=True) as opened:
        outcome = opened.ask(step)
        if not isinstance(outcome, Authenticated):
            opened.close_on(outcome, None)
        elif account:
            opened.close_on(outcome, AccountState("1"))
        else:
            opened.close_on(Rejected(Reason.NO_ACCOUNT), None)
    return outcome
