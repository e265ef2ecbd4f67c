"""Exceptions for faulty configurations and unavailable stores, with advice for the operator."""

from __future__ import annotations


class GenesysAuthError(Exception):
    """Base class of the errors that this package raises."""


class ConfigurationError(GenesysAuthError):
    """The configuration or the application has problems that keep it from starting.

    :param problems: one sentence each, with the dotted path first, such as
        ``"contact_centers.acme.salesforce.timeout: must be greater than 0"``. All problems are collected first.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems:\n{listed}"


class BackendUnavailable(GenesysAuthError):
    """A store did not answer: the request is neither accepted nor rejected, and gets 503.

    :param finding: what happened, for the log; without secrets.
    :param retry_after: seconds until a retry makes sense.
    """

    def __init__(self, finding: str, *, retry_after: int = 5) -> None:
        super().__init__(finding)
        self.finding = finding
        self.retry_after = retry_after


class StateUnavailable(BackendUnavailable):
    """The state store (login sessions, one-time keys) did not answer."""


class RevokedInPart(StateUnavailable):
    """The state store stopped answering during a revocation; repeat it to end the remaining sessions.

    :param cause: the store's error.
    :param ended: how many sessions had ended before.
    """

    def __init__(self, cause: StateUnavailable, ended: int) -> None:
        super().__init__(
            f"{cause.finding}; login sessions ended before that: {ended}; revoke again to end the rest",
            retry_after=cause.retry_after,
        )
        self.ended = ended


class AccountsUnavailable(BackendUnavailable):
    """The account store did not answer."""


class HasherBusy(BackendUnavailable):
    """A password could not be hashed in time (``passwords.concurrent_hashes``)."""
