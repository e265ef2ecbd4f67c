"""What the browser's session keeps of logins, and when an answer must not carry its cookie.

No other module names the keys; the template ``signed_out.html``, which applications render too, reads one of them.
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
"""The login session's opaque id, which survives Flask-Login's own log-out."""
PENDING = "_genesys_pending"
"""The SAML logins that this browser has begun."""
SIGNED_OUT = "_genesys_signed_out"
LOGOUT = "_genesys_logout"

_OF_THE_USER = ("_user_id", "_fresh", "_id")
_KEPT = frozenset({"_flashes", "_permanent", *_OF_THE_USER, "_remember", "_remember_seconds", PENDING})


class BrowserSession:
    """Typed access to the keys of a session that belong to this extension or to Flask-Login.

    :param session: Flask's ``session``, or one that a test client opens.
    """

    __slots__ = ("_session",)

    def __init__(self, session: MutableMapping[str, Any]) -> None:
        self._session = session

    @property
    def login(self) -> str | None:
        """The opaque id of the login session; empty if there is something else in its place."""
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
        """The SAML logins that this browser has begun: pairs of reference and nonce."""
        found = self._session.get(PENDING)
        return list(found) if isinstance(found, list) else []

    @pending.setter
    def pending(self, logins: list[list[str]]) -> None:
        self._session[PENDING] = logins

    @property
    def signed_out(self) -> str | None:
        """Set after a logout: the next login is not silent; and what the page tells.

        ``here``: there was nothing else to end. ``local``: the SAML provider could not be asked. ``asked``: it has
        not answered yet. ``complete``, ``partial``, ``failed``: its answer.
        """
        return cast("str | None", self._session.get(SIGNED_OUT))

    @signed_out.setter
    def signed_out(self, outcome: str) -> None:
        self._session[SIGNED_OUT] = outcome

    @property
    def logout(self) -> str | None:
        """The reference of the logout that a provider was asked for."""
        found = self._session.get(LOGOUT)
        return found if isinstance(found, str) else None

    @logout.setter
    def logout(self, reference: str | None) -> None:
        if reference is None:
            del self._session[LOGOUT]
        else:
            self._session[LOGOUT] = reference

    def log_in(self, opaque: str) -> None:
        """Keep the id of a new login session, where Flask-Login looks for a user's id too."""
        self._session["_user_id"] = self._session[LOGIN] = opaque

    def forget_user(self, former: str | None = None) -> None:
        """Remove what Flask-Login keeps of a user.

        :param former: the login session that this browser had before, and keeps.
        """
        for key in _OF_THE_USER:
            self._session.pop(key, None)
        if former is not None:
            self._session["_user_id"] = former

    def clear_remembered(self) -> None:
        """Let Flask-Login take its remember cookie away, if this request brought one."""
        if _remember_cookie() in request.cookies:
            self._session["_remember"] = "clear"

    def keeps_remembered(self) -> bool:
        """Tell whether the remember cookie of this request still counts."""
        return self._session.get("_remember") != "clear"

    def start_afresh(self, app: Flask) -> None:
        """Remove what is not of the login: the rest belonged to the former user of this browser."""
        for key in [key for key in self._session if key not in _KEPT]:
            del self._session[key]
        regenerate = getattr(app.session_interface, "regenerate", None)
        if regenerate is not None:
            regenerate(self._session)


browser = BrowserSession(session)
"""The session of the current request's browser."""


def login_session_id(*, cleared: bool = False) -> str | None:
    """Return the opaque id of the login session that this browser carries, from its session or remember cookie.

    :param cleared: look at a remember cookie that this request takes away, too.
    """
    opaque = browser.login
    if opaque is None and getattr(current_application().login_manager, "reads_remember_cookie", True):  # type: ignore[attr-defined]  # set by Flask-Login
        cookie = request.cookies.get(_remember_cookie())
        opaque = decode_cookie(cookie) if cookie and (cleared or browser.keeps_remembered()) else None
    return opaque or None


def _remember_cookie() -> str:
    return cast("str", current_app.config.get("REMEMBER_COOKIE_NAME", flask_login.COOKIE_NAME))


def leave_no_cookie(app: Flask, decision: Decision) -> None:
    """Keep Flask from renewing a permanent session's cookie on a request that did not use it."""
    if not decision.resumed and session.permanent and not session.modified:
        request_finished.connect(_take_cookie_back, app)


def keep_session_of_browser() -> None:
    """Set no session cookie in the answer to a request that brought none: the browser may well have one."""
    app = current_application()
    if app.session_interface.get_cookie_name(app) not in request.cookies:
        state_of(request).sends_no_session = True
        request_finished.connect(_take_cookie_back, app)


def _take_cookie_back(app: Flask, response: Response, **_: object) -> None:
    state = state_of(request)
    unused = state.decision is not None and not state.decision.resumed and not session.modified
    if state.sends_no_session or unused:
        name = app.session_interface.get_cookie_name(app) + "="
        kept = [cookie for cookie in response.headers.getlist("Set-Cookie") if not cookie.startswith(name)]
        response.headers.setlist("Set-Cookie", kept)
