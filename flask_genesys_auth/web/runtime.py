"""The extension's state for one application: frozen, in ``app.extensions["genesys_auth"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from flask import Flask, Request, current_app

from ..chain.contact_centers import DisabledStep
from ..steps.login_session import LoginSessionStep

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException

    from ..accounts.passwords import PasswordHasher
    from ..chain.contact_centers import ContactCenters
    from ..chain.outcomes import Decision, LoginSession
    from ..chain.protocols import AccountStore, StateStore
    from ..chain.walk import AuthenticationChain
    from ..config.settings import Settings
    from ..limits import BeginLimit, FailureThrottle
    from ..saml.service_provider import ServiceProvider
    from ..sessions import LoginSessions
    from .origin import Origins
    from .policies import PolicyTable
    from .saml_failures import SamlFailures
    from .texts import Texts

EXTENSION = "genesys_auth"
REQUEST = "_genesys_auth"
"""The attribute of a request that holds its :class:`RequestState`."""


class Memory(Protocol):
    """In-process memory that outlives a request, apart from the stores."""

    def clear(self) -> None:
        """Remove all entries."""
        ...


@dataclass(frozen=True, slots=True)
class SamlParts:
    """The parts of the SAML views.

    :param service_providers: by contact center; empty if none has SAML.
    :param begin_limit: limits the logins that an address may begin.
    :param failures: the reasons of refused messages.
    """

    service_providers: Mapping[str, ServiceProvider]
    begin_limit: BeginLimit
    failures: SamlFailures


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of one application's authentication, assembled by ``init_app``.

    :param memories: in-process memories that tests clear.
    """

    settings: Settings
    contact_centers: ContactCenters
    chain: AuthenticationChain
    accounts: AccountStore[Any]
    hasher: PasswordHasher
    state: StateStore
    sessions: LoginSessions
    policies: PolicyTable
    origins: Origins
    texts: Texts
    throttle: FailureThrottle
    saml: SamlParts
    memories: tuple[Memory, ...]


@dataclass(frozen=True, slots=True)
class LoginDetails:
    """The values of a login session that is about to begin."""

    contact_center: str
    step: str
    provider: str = ""
    name_id: str = ""
    session_index: str = ""
    not_on_or_after: float | None = None
    confirm: Callable[[], None] | None = None


@dataclass(slots=True)
class RequestState:
    """The extension's state of one request.

    :param asked: the chain was walked.
    :param decision: the current decision; during the walk: anonymous.
    :param foreign: another site sent the request with the user's session or password.
    :param login: the values of the login session that is about to begin.
    :param ended: the login session that a logout ended.
    :param refusal: the refusal of the request.
    :param sends_no_session: the response sets no session cookie, because the request has none.
    """

    asked: bool = False
    decision: Decision | None = None
    foreign: bool = False
    login: LoginDetails | None = None
    ended: LoginSession | None = None
    refusal: HTTPException | None = None
    sends_no_session: bool = False


def state_of(sent: Request) -> RequestState:
    """Return the extension's state of a request."""
    state: RequestState = vars(sent).setdefault(REQUEST, RequestState())
    return state


def without_steps(here: Runtime) -> Iterator[str]:
    """Yield a sentence for each contact center in which only the application's own login can succeed."""
    for center in here.contact_centers.values():
        if all(isinstance(step, (DisabledStep, LoginSessionStep)) for step in center.steps):
            yield f"contact_centers.{center.name}: no step is enabled; enable one, or log users in with your own view"


def runtime(app: Flask | None = None) -> Runtime:
    """Return the runtime of an application (default: the current one)."""
    here: Runtime = (app or current_app).extensions[EXTENSION]
    return here


def current_application() -> Flask:
    """Return the current application itself, not the proxy."""
    return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]  # Flask's documented way
