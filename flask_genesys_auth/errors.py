"""What can go wrong with the set-up or the servers behind us, as exceptions that tell the operator what to do."""

from __future__ import annotations


class GenesysAuthError(Exception):
    """The base of every error this package raises on purpose."""


class ConfigurationError(GenesysAuthError):
    """The configuration, or the application around it, cannot be served as it stands.

    :param problems: one sentence each, the dotted path first, such as
        ``"contact_centers.acme.salesforce.timeout: must be greater than 0"``. All are found before any is raised.
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
    """A store of ours did not answer: the request is neither allowed nor refused, it is 503.

    :param finding: what happened, for the log; holds no secret.
    :param retry_after: seconds after which asking again makes sense.
    """

    def __init__(self, finding: str, *, retry_after: int = 5) -> None:
        super().__init__(finding)
        self.finding = finding
        self.retry_after = retry_after


class StateUnavailable(BackendUnavailable):
    """The state store (login sessions, one-time keys) did not answer."""


class RevokedInPart(StateUnavailable):
    """The state store stopped answering while login sessions were being ended; revoking again ends the rest.

    :param cause: how it did.
    :param ended: how many had ended before.
    """

    def __init__(self, cause: StateUnavailable, ended: int) -> None:
        super().__init__(
            f"{cause.finding}; login sessions ended before that: {ended}, revoke again to end the rest",
            retry_after=cause.retry_after,
        )
        self.ended = ended


class AccountsUnavailable(BackendUnavailable):
    """The account store did not answer."""


class HasherBusy(BackendUnavailable):
    """More passwords wait to be hashed than this process allows (``passwords.concurrent_hashes``)."""
