"""When an answer must not carry the cookie of Flask's session, though Flask would set it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, request, request_finished, session

from .login import current_application, walked
from .runtime import state_of

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from ..chain.outcomes import Decision


def leave_no_cookie(app: Flask, decision: Decision) -> None:
    """Keep Flask from renewing a permanent session's cookie on a request that did not use it."""
    if not decision.resumed and session.permanent and not session.modified:
        request_finished.connect(_take_back_renewal, app)


def keep_session_of_browser() -> None:
    """Set no session cookie in the answer to a request that brought none: the browser may well have one."""
    app = current_application()
    if app.session_interface.get_cookie_name(app) not in request.cookies:
        state_of(request).sends_no_session = True
        request_finished.connect(_take_back_session, app)


def _take_back_renewal(app: Flask, response: Response, **_: object) -> None:
    decision = walked(request)[1]
    if decision is None or decision.resumed or session.modified:
        return
    _drop(app, response)


def _take_back_session(app: Flask, response: Response, **_: object) -> None:
    if state_of(request).sends_no_session:
        _drop(app, response)


def _drop(app: Flask, response: Response) -> None:
    name = app.session_interface.get_cookie_name(app) + "="
    kept = [cookie for cookie in response.headers.getlist("Set-Cookie") if not cookie.startswith(name)]
    response.headers.setlist("Set-Cookie", kept)
