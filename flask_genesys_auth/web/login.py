"""The seam with Flask-Login: a decision becomes ``current_user``, a login becomes a session of the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import flask_login
from flask import Flask, request, session
from flask_login import AnonymousUserMixin, LoginManager, user_logged_in, user_logged_out
from werkzeug.local import LocalProxy

from ..chain.outcomes import Authenticated, Decision, LoginSession
from ..errors import BackendUnavailable, ConfigurationError, RevokedInPart
from . import events, refusals
from .browser import browser, login_session_id
from .hooks import decide, forget_decision
from .runtime import LoginDetails, Runtime, current_application, runtime, state_of

if TYPE_CHECKING:
    from ..accounts.models import Account
    from ..sessions import SessionInfo


class Anonymous(AnonymousUserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
    """Nobody: what ``current_user`` is on unprotected endpoints, with the names that templates ask for."""

    user_name = ""
    first_name = ""
    last_name = ""
    roles: frozenset[str] = frozenset()


class OwnLoginManager(LoginManager):  # type: ignore[misc]  # Flask-Login has no type hints
    """The manager of an application that brings none: the walk alone decides.

    Session protection and remember cookie are off: login sessions live on the server, where they can be revoked.
    """

    reads_remember_cookie = False

    def __init__(self) -> None:
        super().__init__()
        self.session_protection = None
        self.anonymous_user = Anonymous

    def init_app(self, app: Flask, add_context_processor: bool = True) -> None:
        """Take an application's users over; there is no remember cookie to look after at the end of a request."""
        super().init_app(app, add_context_processor)
        after = app.after_request_funcs.get(None, [])
        if self._update_remember_cookie in after:
            after.remove(self._update_remember_cookie)

    def _load_user(self) -> None:
        self._update_request_context_with_user(decide().user)


def attach(app: Flask, *, take_over_loaders: bool) -> LoginManager:
    """Give the application a login manager, or its own one our loaders.

    :raises ConfigurationError: if its own already has loaders and ``take_over_loaders`` is off.
    """
    manager: LoginManager | None = getattr(app, "login_manager", None)
    if manager is None:
        manager = OwnLoginManager()
        manager.init_app(app)
    elif not take_over_loaders and (manager.user_callback or manager.request_callback):
        raise ConfigurationError(
            "take_over_loaders: the application's LoginManager already has a user_loader or a request_loader; "
            "remove it, or set take_over_loaders = true to let the authentication chain take its place"
        )
    if not isinstance(manager, OwnLoginManager):
        _look_past_bad_cookies(manager)
    manager.user_loader(_load)
    manager.request_loader(_load)
    if manager.unauthorized_callback is None:
        manager.unauthorized_handler(_unauthorized)
    _show_templates_nobody_foreign(app, manager)
    user_logged_in.connect(_on_logged_in, app)
    user_logged_out.connect(_on_logged_out, app)
    return manager


def _look_past_bad_cookies(manager: LoginManager) -> None:
    """Let the walk decide also where the remember cookie is garbage: Flask-Login would look no further."""
    load = manager._load_user_from_remember_cookie

    def load_or_decide(cookie: str) -> Any:
        found = load(cookie)
        return decide().user if found is None else found

    manager._load_user_from_remember_cookie = load_or_decide


def _show_templates_nobody_foreign(app: Flask, manager: LoginManager) -> None:
    """Show templates an anonymous user where asking for the user would be refused.

    Flask-Login asks for the user in every template, also in an error's page, which must not become another error.
    """

    def shown() -> dict[str, Any]:
        state = state_of(request)
        before = state.refusal
        try:
            return found()  # type: ignore[no-any-return]  # Flask-Login has no type hints
        except refusals.ForeignOrigin:
            # The request itself was not refused by that.
            state.refusal = before
            return {"current_user": manager.anonymous_user()}

    found = flask_login.utils._user_context_processor
    processors = app.template_context_processors[None]
    if found in processors:
        processors[processors.index(found)] = shown


def _load(_: object) -> Any:
    return decide().user


def _unauthorized() -> Any:
    raise refusals.for_anonymous(decide())


current_decision: Decision[Account] = cast("Decision[Account]", LocalProxy(decide))
"""The decision of the current request; looking at it walks the chain if nobody has before."""

current_user: Account = cast("Account", flask_login.current_user)
"""Flask-Login's ``current_user``, typed as our own account."""


def begin_session(
    user: Any,
    *,
    contact_center: str,
    step: str,
    provider: str = "",
    name_id: str = "",
    session_index: str = "",
    not_on_or_after: float | None = None,
    confirm: Callable[[], None] | None = None,
) -> None:
    """Log this user in: a new login session of the server, and a browser's session without the past.

    :param step: the step that proved the user: ``saml``, ``web_services``, ``configuration_server``.
    :param not_on_or_after: unix time at which the identity provider wants the session to end at the latest.
    :param confirm: called when the login session is there and nobody has its id yet; what it raises ends it.
    :raises DirectoryUnavailable: if the state cannot keep the session.
    """
    details = LoginDetails(contact_center, step, provider, name_id, session_index, not_on_or_after, confirm)
    state_of(request).login = details
    try:
        flask_login.login_user(user, force=True)
    except Exception:
        # Flask-Login has already made this user the current one, whom a page about the error would greet.
        current_application().login_manager._update_request_context_with_user()  # type: ignore[attr-defined]  # set by Flask-Login
        raise


def end_session() -> LoginSession | None:
    """Log the current browser out, here and on the server; return the login session that this has ended.

    :raises DirectoryUnavailable: if the state does not answer: then nobody is logged out.
    """
    opaque = login_session_id()
    if opaque is not None:
        browser.login = opaque
    flask_login.logout_user()
    state = state_of(request)
    ended, state.ended = state.ended, None
    return ended


def forget_ended() -> None:
    """Take a login session out of the browser's session if the server has ended it; looks at no decision."""
    opaque = login_session_id()
    if opaque is None:
        return
    try:
        if isinstance(runtime().sessions.resume(opaque, touch=False), LoginSession):
            return
    except BackendUnavailable:
        # The next request that can ask will be told.
        return
    browser.forget_user()
    browser.login = None
    browser.clear_remembered()
    browser.signed_out = "here"


def log_in_with_password(user_name: str, password: str) -> Decision:
    """See :meth:`flask_genesys_auth.GenesysAuth.log_in_with_password`."""
    _check_form()
    decision = runtime().chain.check_password(request, user_name, password)
    events.report(decision, user_name=user_name)
    outcome = decision.steps[-1].outcome if decision.steps else None
    if decision.user is not None and isinstance(outcome, Authenticated):
        begin_session(decision.user, contact_center=outcome.identity.contact_center, step=outcome.identity.step)
    return decision


def _check_form() -> None:
    """Refuse a login form that another site sent (login CSRF), though the request is still anonymous.

    :raises ForeignOrigin: if it did.
    """
    if runtime().origins.is_foreign_form(request):
        raise refusals.ForeignOrigin(Decision(None))


def list_sessions(
    account_id: str | None = None, contact_center: str | None = None, limit: int | None = None
) -> list[SessionInfo]:
    """See :meth:`flask_genesys_auth.GenesysAuth.sessions`."""
    here = runtime()
    if account_id is not None or contact_center is not None:
        return [*here.sessions.all_of(account_id=account_id, contact_center=contact_center, limit=limit)]
    found: list[SessionInfo] = []
    # A session of a contact center that is configured no more is nobody's.
    for center in sorted(here.contact_centers):
        left = None if limit is None else limit - len(found)
        found += here.sessions.all_of(contact_center=center, limit=left)
    return found


def revoke_sessions(account_id: str | None, contact_center: str | None, session: str | None) -> int:
    """See :meth:`flask_genesys_auth.GenesysAuth.revoke`."""
    if session is not None:
        if account_id is not None or contact_center is not None:
            raise ValueError("revoke() takes a session, or an account_id, a contact_center or both")
        ended = runtime().sessions.revoke_one(session)
        if ended is None:
            return 0
        _report_revoked(ended.account_id, ended.contact_center, 1)
        return 1
    if account_id is None and contact_center is None:
        raise ValueError("revoke() needs an account_id, a contact_center, both, or a session")
    try:
        count = runtime().sessions.revoke(account_id=account_id, contact_center=contact_center)
    except RevokedInPart as error:
        _report_revoked(account_id, contact_center, error.ended)
        raise
    _report_revoked(account_id, contact_center, count)
    return count


def _report_revoked(account_id: str | None, contact_center: str | None, count: int) -> None:
    events.session_revoked(current_application(), account_id, contact_center, count, by="an administrator")


def _on_logged_in(app: Flask, user: Any, **_: object) -> None:
    """Put a login session of the server in the place of the id that ``login_user`` has written."""
    session.pop("_user_id", None)
    here = runtime(app)
    state = state_of(request)
    details, state.login = state.login, None
    if details is None:
        _check_form()
        details = _application_login(here, user)
    former = browser.login or None
    try:
        account_id = here.chain.describe(user).account_id
        opaque = _start(here, account_id, details)
        if former is not None:
            here.sessions.end(former)
    except Exception as error:
        browser.forget_user(former)
        if isinstance(error, BackendUnavailable):
            raise events.unavailable(error) from error
        raise
    browser.start_afresh(app)
    browser.log_in(opaque)
    forget_decision()
    events.logged_in(app, user, account_id, details.contact_center, details.step)


def _start(here: Runtime, account_id: str, details: LoginDetails) -> str:
    """Begin the server's session; return its id if it may stay."""
    opaque = here.sessions.start(
        contact_center=details.contact_center,
        account_id=account_id,
        step=details.step,
        provider=details.provider,
        name_id=details.name_id,
        session_index=details.session_index,
        not_on_or_after=details.not_on_or_after,
    )
    if details.confirm is not None:
        try:
            details.confirm()
        except Exception:
            # Nobody has its id: one that cannot be ended now is never used, and ends by itself.
            with suppress(BackendUnavailable):
                here.sessions.end(opaque)
            raise
    return opaque


def _application_login(here: Runtime, user: Any) -> LoginDetails:
    contact_center = here.chain.describe(user).contact_center or decide().contact_center
    if contact_center is None:
        raise ConfigurationError(
            "login_user: it is not clear which contact center this login counts for; set default_contact_center, "
            "or let the account store's describe() name the account's contact center"
        )
    return LoginDetails(contact_center, "application")


def _on_logged_out(app: Flask, **_: object) -> None:
    """End the server's session too, so that the cookie is worth nothing any more."""
    # Flask-Login has marked its remember cookie as cleared by now; this request has brought it all the same.
    opaque = login_session_id(cleared=True)
    forget_decision()
    if opaque is not None:
        try:
            ended = runtime(app).sessions.end(opaque)
        except BackendUnavailable as error:
            raise events.unavailable(error) from error
        browser.signed_out = "here"
    else:
        ended = None
    browser.login = None
    if ended is not None:
        state_of(request).ended = ended
        events.logged_out(app, ended)
