"""The decision of a request, and what happens before and after its view; the hot path, so it looks nothing up twice."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from flask import Flask, Request, g, request

from .. import signals
from ..chain.outcomes import Decision, Rejected, Unavailable
from ..errors import ConfigurationError
from ..events import KINDS, Event, log_event, logger
from . import events, redirects, refusals
from .browser import leave_no_cookie, login_session_id
from .origin import SAFE_METHODS, vary_names
from .policies import unknown_endpoints
from .runtime import REQUEST, RequestState, current_application, runtime, state_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Response
    from flask_login import LoginManager

    from .runtime import Runtime


_FORWARDED = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"})
"""Headers in which a proxy sends the address of the client and the scheme."""
_PROXY_FIX = "werkzeug.proxy_fix.orig"
"""A key that ProxyFix adds to the environment of each request."""
_AUTHENTICATED_LEVEL = KINDS[Event.AUTHENTICATED].level


class Hooks:
    """The two hooks of one application.

    :param here: the extension's state for it.
    :param manager: its login manager.
    """

    def __init__(self, app: Flask, here: Runtime, manager: LoginManager) -> None:
        self._app = app
        self._here = here
        self._manager = manager
        self._vary = tuple(vary_names(here.settings))
        self._vary_text = ", ".join(self._vary)
        self._names_checked = False
        self._proxy_told = False

    def install(self) -> None:
        """Stand first: before any hook of the application sees a request, after all of them have seen the answer."""
        self._app.before_request_funcs.setdefault(None, []).insert(0, self.before_request)
        self._app.after_request_funcs.setdefault(None, []).insert(0, self.after_request)
        self._app.teardown_request_funcs.setdefault(None, []).insert(0, forget_user)

    def before_request(self) -> Response | None:
        """Answer a preflight or ``?authType=saml``, or refuse what the endpoint's policy refuses.

        :raises Refusal: one of the refusals, which is also the answer.
        :raises ConfigurationError: if a login manager was attached after ours.
        """
        sent: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
        if vars(self._app).get("login_manager") is not self._manager:
            raise ConfigurationError(
                "LoginManager: one was attached to the application after GenesysAuth; attach it before "
                "auth.init_app(app), or leave it out"
            )
        if not self._names_checked:
            # Views are registered after init_app; at the first request all are there.
            self._names_checked = True
            for finding in unknown_endpoints(self._app, self._here.settings):
                log_event(Event.CONFIGURATION_WARNING, detail=finding)
        told = self._proxy_told or _FORWARDED.isdisjoint(sent.environ)
        if not told and _is_unread(sent.environ):
            self._proxy_told = True
            _report_unread_proxy()
        forget_user()
        if sent.method == "OPTIONS":
            answer = self._here.origins.preflight(sent)
            if answer is not None:
                return answer
        if redirects.SAML_REQUESTED in sent.environ.get("QUERY_STRING", ""):
            answer = redirects.to_saml_login(self._here, sent, decide)
            if answer is not None:
                return answer
        self._check(sent)
        return None

    def _check(self, sent: Request) -> None:
        """Refuse a request if its endpoint's policy says so; Flask answers 404, 405 and automatic OPTIONS."""
        rule = sent.url_rule
        if rule is None or sent.routing_exception is not None:
            return
        if sent.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
            return
        policy = self._here.policies[rule.endpoint, sent.method]
        if not policy.protected:
            return
        decision = decide_on(self._app, self._here, sent)
        if decision.user is None or not policy.roles <= decision.roles:
            raise refusals.refusal(decision)
        # Without a detour through its cookies.
        self._manager._update_request_context_with_user(decision.user)

    def after_request(self, answer: Response) -> Response:
        """Add what depends on the decision: ``Vary``, ``Cache-Control``, a refusal's headers, CORS."""
        sent: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
        state: RequestState = vars(sent).setdefault(REQUEST, RequestState())
        if state.asked:
            self._mark_private(answer)
            if state.decision is not None and "HTTP_COOKIE" in sent.environ:
                leave_no_cookie(self._app, state.decision)
        if state.refusal is not None:
            refusals.add_refusal_headers(state.refusal, answer)
            events.report_refusal(state.refusal)
        if self._here.origins.all_allowed:
            self._here.origins.add_cors(sent, answer, state.decision)
        return answer

    def _mark_private(self, answer: Response) -> None:
        headers = answer.headers
        # Werkzeug's own look-ups search the list once each, and make an exception of what is not there.
        there = {name.lower() for name, _ in headers}
        if "vary" in there:
            answer.vary.update(self._vary)
        else:
            headers.add("Vary", self._vary_text)
        if "cache-control" not in there:
            headers.add("Cache-Control", "private, no-store")
        elif "public" in headers["Cache-Control"]:
            # send_file says so wherever it is given a max_age; shared caches must not keep what somebody may see.
            answer.cache_control.public = False
            answer.cache_control.private = True


def forget_user(_: BaseException | None = None) -> None:
    """Take away the user whom Flask-Login keeps in the application context.

    An outer one (of an application under test) lives longer than a request, and the next one is somebody else's.
    """
    g.pop("_login_user", None)


def _is_unread(environ: WSGIEnvironment) -> bool:
    """Tell whether a proxy has sent the address of the client, and no ProxyFix has read it.

    A client with a public address may have made these headers up, which must not fill the log.
    """
    if _FORWARDED.isdisjoint(environ):
        return False
    if _PROXY_FIX in environ:
        return False
    try:
        address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        # A socket of Unix has no address: only this machine can connect there.
        return True
    return address.is_private or address.is_loopback


def _report_unread_proxy() -> None:
    """Log that all clients share one address in the throttle, and what to do."""
    log_event(
        Event.CONFIGURATION_WARNING,
        detail="a proxy sends X-Forwarded-* and no ProxyFix reads it, so that all clients are one address to the "
        "throttle: set app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1) for exactly the proxies in front, see "
        "flask genesys-auth doctor",
    )


def decide() -> Decision:
    """Return the decision of the current request; the chain is walked at most once.

    :raises ForeignOrigin: if another site sent the request with the user's session or password.
    """
    sent = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
    app = current_application()
    return decide_on(app, runtime(app), sent)


def decide_on(app: Flask, here: Runtime, sent: Request) -> Decision:
    """Return the decision of the current request, as :func:`decide` does, for callers that have it in hand."""
    state: RequestState = vars(sent).setdefault(REQUEST, RequestState())
    known = state.decision
    if known is None:
        # A store that looks at current_user while it is being asked who that is finds an anonymous user.
        state.decision = Decision(None)
        try:
            known = here.chain.walk(sent, login_session_id)
        except BaseException:
            state.decision = None
            raise
        state.decision, state.asked = known, True
        if _is_news(known):
            events.report(known, app=app)
        if sent.method not in SAFE_METHODS:
            state.foreign = here.origins.is_foreign(sent, known)
    if state.foreign:
        raise refusals.ForeignOrigin(known)
    return known


def _is_news(decision: Decision) -> bool:
    """Tell whether a decision is logged or signalled: many requests a second succeed, and usually nothing listens."""
    if decision.user is None or signals.authenticated.receivers or logger.isEnabledFor(_AUTHENTICATED_LEVEL):
        return True
    return any(isinstance(record.outcome, (Rejected, Unavailable)) for record in decision.steps)


def forget_decision() -> None:
    """Let the current request be decided anew."""
    state = state_of(request)
    state.decision, state.foreign = None, False


def adopt(decision: Decision) -> None:
    """Let this be the decision of the current request, so that nothing in it walks the chain (``explain``)."""
    state_of(request).decision = decision
