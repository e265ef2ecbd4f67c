"""A Flask extension for the authentication of Genesys Web Services contact centers."""

from __future__ import annotations

from .chain.outcomes import Authenticated, Decision, Identity, NotApplicable, Outcome, Reason, Rejected, Unavailable
from .chain.protocols import AccountState, AccountStore, Challenge, Directory, DirectoryEntry, PasswordStore, Step
from .errors import ConfigurationError, GenesysAuthError
from .extension import GenesysAuth
from .sessions import SessionInfo
from .signals import authenticated, logged_in, logged_out, rejected, session_revoked, unavailable
from .web.access import login_required, protected, roles_required, unprotected
from .web.login import current_decision, current_user
from .web.redirects import local_path
from .web.refusals import (
    AuthenticationRequired,
    DirectoryUnavailable,
    ForeignOrigin,
    Refusal,
    RoleRequired,
    Throttled,
)

__all__ = [
    "AccountState",
    "AccountStore",
    "Authenticated",
    "AuthenticationRequired",
    "Challenge",
    "ConfigurationError",
    "Decision",
    "Directory",
    "DirectoryEntry",
    "DirectoryUnavailable",
    "ForeignOrigin",
    "GenesysAuth",
    "GenesysAuthError",
    "Identity",
    "NotApplicable",
    "Outcome",
    "PasswordStore",
    "Reason",
    "Refusal",
    "Rejected",
    "RoleRequired",
    "SessionInfo",
    "Step",
    "Throttled",
    "Unavailable",
    "authenticated",
    "current_decision",
    "current_user",
    "local_path",
    "logged_in",
    "logged_out",
    "login_required",
    "protected",
    "rejected",
    "roles_required",
    "session_revoked",
    "unavailable",
    "unprotected",
]
