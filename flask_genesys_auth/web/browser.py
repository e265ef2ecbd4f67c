"""The keys of logins in Flask's session, and responses that must not set its cookie.

Only this module uses the keys; the template ``signed_out.html``, which applications also render, reads one of them.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

import flask_login
from flask import Flask, current_app, request, request_finished, session
from flask_login.utils import decode_cookie

from .runtime import current_application, state_of

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from ..chain.outcomes import Decision

LOGIN = "_genesys_login"
"""The opaque id of the login session; Flask-Login's logout does not remove it."""
PENDING = "_genesys_pending"
"""The SAML logins that this browser began."""
SIGNED_OUT = "_genesys_signed_out"
LOGOUT = "_genesys_logout"

_USER_KEYS = ("_user_id", "_fresh", "_id")
_LOGIN_KEYS = frozenset({"_flashes", "_permanent", *_USER_KEYS, "_remember", "_remember_seconds", PENDING})


class BrowserSession:
    """Typed access to the session keys of this extension and of Flask-Login.

    :param session: Flask's ``session``, or the session of a test client.
    """

    __slots__ = ("_session",)

    def __init__(self, session: MutableMapping[str, Any]) -> None:
        self._session = session

    @property
    def login(self) -> str | None:
        """The opaque id of the login session; empty if the value is not a string."""
        found = self._session.get(LOGIN)
        return found if found is None or isinstance(found, str) else ""

    @login.setter
    def login(self, opaque: str | None) -> None:
        if opaque is None:
            self._session.pop(LOGIN, None)
        else:
            self._session[LOGIN] = opaque

    @property
    def pending(self) -> list[list[str]]:
        """The SAML logins that this browser began: pairs of reference and nonce."""
        found = self._session.get(PENDING)
        return list(found) if isinstance(found, list) else []

    @pending.setter
    def pending(self, logins: list[list[str]]) -> None:
        self._session[PENDING] = logins

    @property
    def signed_out(self) -> str | None:
        """The outcome of a logout, for the signed-out page; while it is set, the next login is not silent.

        ``here``: no provider was involved. ``local``: the SAML provider could not be contacted. ``asked``: it has not
        answered yet. ``complete``, ``partial``, ``failed``: its answer.
        """
        return cast("str | None", self._session.get(SIGNED_OUT))

    @signed_out.setter
    def signed_out(self, outcome: str) -> None:
        self._session[SIGNED_OUT] = outcome

    @property
    def logout(self) -> str | None:
        """The reference of the logout request that was sent to a provider."""
        found = self._session.get(LOGOUT)
        return found if isinstance(found, str) else None

    @logout.setter
    def logout(self, reference: str | None) -> None:
        if reference is None:
            del self._session[LOGOUT]
        else:
            self._session[LOGOUT] = reference

    def log_in(self, opaque: str) -> None:
        """Store the id of a new login session, also under Flask-Login's key."""
        self._session["_user_id"] = self._session[LOGIN] = opaque

    def forget_user(self, former: str | None = None) -> None:
        """Remove Flask-Login's keys.

        :param former: the previous login session, which the browser keeps.
        """
        for key in _USER_KEYS:
            self._session.pop(key, None)
        if former is not None:
            self._session["_user_id"] = former

    def clear_remembered(self) -> None:
        """Let Flask-Login delete its remember cookie, if the request has one."""
        if _remember_cookie() in request.cookies:
            self._session["_remember"] = "clear"

    def reset(self, app: Flask) -> None:
        """Remove the data of the previous user: all keys that do not belong to the login."""
        for key in [key for key in self._session if key not in _LOGIN_KEYS]:
            del self._session[key]
        regenerate = getattr(app.session_interface, "regenerate", None)
        if regenerate is not None:
            regenerate(self._session)


browser = BrowserSession(session)
"""The session of the current request."""


def login_session_id(*, cleared: bool = False) -> str | None:
    """Return the opaque id of this browser's login session, from the session or the remember cookie.

    :param cleared: also read a remember cookie that this request deletes.
    """
    opaque = browser.login
    if opaque is None and getattr(current_application().login_manager, "reads_remember_cookie", True):  # type: ignore[attr-defined]  # set by Flask-Login
        cookie = request.cookies.get(_remember_cookie())
        opaque = decode_cookie(cookie) if cookie and (cleared or session.get("_remember") != "clear") else None
    return opaque or None


def _remember_cookie() -> str:
    return cast("str", current_app.config.get("REMEMBER_COOKIE_NAME", flask_login.COOKIE_NAME))


def skip_cookie_renewal(app: Flask, decision: Decision) -> None:
    """Keep Flask from renewing the cookie of a permanent session that the request did not use."""
    if not decision.resumed and session.permanent and not session.modified:
        request_finished.connect(_drop_cookie, app)


def withhold_new_cookie() -> None:
    """Set no session cookie if the request has none: the browser may have one that it did not send."""
    app = current_application()
    if app.session_interface.get_cookie_name(app) not in request.cookies:
        state_of(request).sends_no_session = True
        request_finished.connect(_drop_cookie, app)


def _drop_cookie(app: Flask, response: Response, **_: object) -> None:
    state = state_of(request)
    unused = state.decision is not None and not state.decision.resumed and not session.modified
    if state.sends_no_session or unused:
        name = app.session_interface.get_cookie_name(app) + "="
        kept = [cookie for cookie in response.headers.getlist("Set-Cookie") if not cookie.startswith(name)]
        response.headers.setlist("Set-Cookie", kept)
