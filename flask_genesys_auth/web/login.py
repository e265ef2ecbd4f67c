"""Flask-Login integration: ``current_user`` from the decision, and login sessions on the server."""

from __future__ import annotations

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
    """The anonymous ``current_user``, with the attributes that templates read."""

    user_name = ""
    first_name = ""
    last_name = ""
    roles: frozenset[str] = frozenset()


class OwnLoginManager(LoginManager):  # type: ignore[misc]  # Flask-Login has no type hints
    """The login manager for applications without their own: the walk alone decides.

    Session protection and remember cookie are off: login sessions are kept on the server and can be revoked.
    """

    reads_remember_cookie = False

    def __init__(self) -> None:
        super().__init__()
        self.session_protection = None
        self.anonymous_user = Anonymous

    def init_app(self, app: Flask, add_context_processor: bool = True) -> None:
        """Attach to an application, without the hook that updates the remember cookie."""
        super().init_app(app, add_context_processor)
        after = app.after_request_funcs.get(None, [])
        if self._update_remember_cookie in after:
            after.remove(self._update_remember_cookie)

    def _load_user(self) -> None:
        self._update_request_context_with_user(decide().user)


def attach(app: Flask, *, take_over_loaders: bool) -> LoginManager:
    """Attach a login manager to the application, or our loaders to its own manager.

    :raises ConfigurationError: if its manager already has loaders and ``take_over_loaders`` is off.
    """
    manager: LoginManager | None = getattr(app, "login_manager", None)
    if manager is None:
        manager = OwnLoginManager()
        manager.init_app(app)
    elif not take_over_loaders and (manager.user_callback or manager.request_callback):
        raise ConfigurationError(
            "take_over_loaders: the application's LoginManager already has a user_loader or a request_loader; "
            "remove it, or set take_over_loaders = true to replace it with the authentication chain"
        )
    if not isinstance(manager, OwnLoginManager):
        _ignore_invalid_remember_cookie(manager)
    manager.user_loader(_load)
    manager.request_loader(_load)
    if manager.unauthorized_callback is None:
        manager.unauthorized_handler(_unauthorized)
    _handle_foreign_origin_in_templates(app, manager)
    user_logged_in.connect(_on_logged_in, app)
    user_logged_out.connect(_on_logged_out, app)
    return manager


def _ignore_invalid_remember_cookie(manager: LoginManager) -> None:
    """Let the walk decide if the remember cookie is invalid; Flask-Login would stop there."""
    load = manager._load_user_from_remember_cookie

    def load_or_decide(cookie: str) -> Any:
        found = load(cookie)
        return decide().user if found is None else found

    manager._load_user_from_remember_cookie = load_or_decide


def _handle_foreign_origin_in_templates(app: Flask, manager: LoginManager) -> None:
    """Pass an anonymous user to templates if reading the user raises ``ForeignOrigin``.

    Flask-Login reads the user in every template, also in error pages, which must not fail again.
    """

    def user_or_anonymous() -> dict[str, Any]:
        state = state_of(request)
        before = state.refusal
        try:
            return original()  # type: ignore[no-any-return]  # Flask-Login has no type hints
        except refusals.ForeignOrigin:
            # This did not refuse the request itself.
            state.refusal = before
            return {"current_user": manager.anonymous_user()}

    original = flask_login.utils._user_context_processor
    processors = app.template_context_processors[None]
    if original in processors:
        processors[processors.index(original)] = user_or_anonymous


def _load(_: object) -> Any:
    return decide().user


def _unauthorized() -> Any:
    raise refusals.for_anonymous(decide())


current_decision: Decision[Account] = cast("Decision[Account]", LocalProxy(decide))
"""The decision of the current request. Reading it walks the chain, at most once."""

current_user: Account = cast("Account", flask_login.current_user)
"""Flask-Login's ``current_user``, typed as the built-in account."""


def begin_session(user: Any, details: LoginDetails) -> None:
    """Log a user in: begin a login session, and remove the data of the previous user from the browser's session.

    ``details.confirm`` is called after the login session is stored and before the browser gets its id; if it raises,
    the session ends.

    :raises DirectoryUnavailable: if the state cannot store the session.
    """
    state_of(request).login = details
    try:
        flask_login.login_user(user, force=True)
    except Exception:
        # Flask-Login has already set this user as the current one; an error page must not show them.
        current_application().login_manager._update_request_context_with_user()  # type: ignore[attr-defined]  # set by Flask-Login
        raise


def end_session() -> LoginSession | None:
    """Log the current user out of the browser and the server; return the ended login session.

    :raises DirectoryUnavailable: if the state does not answer; the user is still logged in.
    """
    opaque = login_session_id()
    if opaque is not None:
        browser.login = opaque
    flask_login.logout_user()
    state = state_of(request)
    ended, state.ended = state.ended, None
    return ended


def forget_ended() -> None:
    """Remove a login session from the browser's session if it has ended on the server; does not walk the chain."""
    opaque = login_session_id()
    if opaque is None:
        return
    try:
        if isinstance(runtime().sessions.resume(opaque, touch=False), LoginSession):
            return
    except BackendUnavailable:
        # A later request will find out.
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
        begin_session(decision.user, LoginDetails(outcome.identity.contact_center, outcome.identity.step))
    return decision


def _check_form() -> None:
    """Refuse a login form from another site (login CSRF); the request is still anonymous.

    :raises ForeignOrigin: if another site sent it.
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
    # Sessions of contact centers that left the configuration are not listed.
    for center in sorted(here.contact_centers):
        left = None if limit is None else limit - len(found)
        found += here.sessions.all_of(contact_center=center, limit=left)
    return found


def revoke_sessions(account_id: str | None, contact_center: str | None, session: str | None) -> int:
    """See :meth:`flask_genesys_auth.GenesysAuth.revoke`."""
    if session is not None:
        if account_id is not None or contact_center is not None:
            raise ValueError("revoke() takes either a session, or an account_id, a contact_center or both")
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
    """Begin a login session, and replace the user id that ``login_user`` stored with the session's id."""
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
    browser.reset(app)
    browser.log_in(opaque)
    forget_decision()
    events.logged_in(app, user, account_id, details.contact_center, details.step)


def _start(here: Runtime, account_id: str, details: LoginDetails) -> str:
    """Begin the login session and confirm it; return its id."""
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
            # No browser has its id: a session that cannot be ended now is never used and expires.
            with suppress(BackendUnavailable):
                here.sessions.end(opaque)
            raise
    return opaque


def _application_login(here: Runtime, user: Any) -> LoginDetails:
    contact_center = here.chain.describe(user).contact_center or decide().contact_center
    if contact_center is None:
        raise ConfigurationError(
            "login_user: the contact center of this login is unknown; set default_contact_center, or return the "
            "account's contact center from the account store's describe()"
        )
    return LoginDetails(contact_center, "application")


def _on_logged_out(app: Flask, **_: object) -> None:
    """End the login session on the server as well, so that a copy of the cookie is useless."""
    # Flask-Login has already marked the remember cookie as cleared, but the request carries it.
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
