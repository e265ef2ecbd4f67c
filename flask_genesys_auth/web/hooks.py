"""The decision of a request, and the hooks before and after its view. This is the hot path."""

from __future__ import annotations

import ipaddress
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask, Request, g, request

from .. import signals
from ..chain.evidence import read_address
from ..chain.outcomes import Decision, Rejected, Unavailable
from ..errors import ConfigurationError
from ..events import Event, log_event, logger, plain
from ..processes import PerProcess
from . import events, redirects, refusals
from .browser import login_session_id, skip_cookie_renewal
from .origin import SAFE_METHODS, vary_names
from .policies import unknown_endpoints
from .runtime import REQUEST, RequestState, current_application, runtime, state_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Response
    from flask_login import LoginManager

    from .runtime import Runtime


_FORWARDED = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"})
"""Headers with which a proxy passes on the client's address and scheme."""
_PROXY_FIX = "werkzeug.proxy_fix.orig"
"""The key that ProxyFix adds to the environment of each request."""
_SHOWN_ADDRESS = 60
_AUTHENTICATED_LEVEL = Event.AUTHENTICATED.level


class Hooks:
    """The two hooks of one application.

    :param here: the runtime of the application.
    :param manager: its login manager.
    """

    def __init__(self, app: Flask, here: Runtime, manager: LoginManager) -> None:
        self._app = app
        self._here = here
        self._manager = manager
        self._vary = tuple(vary_names(here.settings))
        self._vary_text = ", ".join(self._vary)
        self._names_checked = False
        self._proxy_reported = False
        self._address_reported = PerProcess(Lock)  # acquired by the first report, and never released

    def install(self) -> None:
        """Install the hooks before all others: the application's hooks run inside of them."""
        self._app.before_request_funcs.setdefault(None, []).insert(0, self.before_request)
        self._app.after_request_funcs.setdefault(None, []).insert(0, self.after_request)
        self._app.teardown_request_funcs.setdefault(None, []).insert(0, forget_user)

    def before_request(self) -> Response | None:
        """Answer a preflight or ``?authType=saml``, or apply the endpoint's policy.

        :raises Refusal: the refusal, which is also the response.
        :raises ConfigurationError: if a login manager was attached after ours.
        """
        sent: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
        if vars(self._app).get("login_manager") is not self._manager:
            raise ConfigurationError(
                "LoginManager: one was attached to the application after GenesysAuth; attach it before "
                "auth.init_app(app), or remove it"
            )
        if not self._names_checked:
            # Views are registered after init_app; at the first request all are known.
            self._names_checked = True
            for finding in unknown_endpoints(self._app, self._here.settings):
                log_event(Event.CONFIGURATION_WARNING, detail=finding)
        if not self._proxy_reported and _is_unread(sent.environ):
            self._proxy_reported = True
            _report_unread_proxy()
        if not read_address(sent.remote_addr or "") and self._address_reported.get().acquire(blocking=False):
            _report_unreadable_address(sent)
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
        """Apply the endpoint's policy; Flask answers 404, 405 and automatic OPTIONS."""
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
        # Set directly: Flask-Login would read its cookies first.
        self._manager._update_request_context_with_user(decision.user)

    def after_request(self, answer: Response) -> Response:
        """Add the headers that depend on the decision: ``Vary``, ``Cache-Control``, those of a refusal, CORS."""
        sent: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
        state: RequestState | None = vars(sent).get(REQUEST)
        decision = None
        if state is not None:
            decision = state.decision
            if state.asked:
                self._mark_private(answer)
                if decision is not None and "HTTP_COOKIE" in sent.environ:
                    skip_cookie_renewal(self._app, decision)
            if state.refusal is not None:
                refusals.add_refusal_headers(state.refusal, answer)
                events.report_refusal(state.refusal)
        if self._here.origins.all_allowed:
            self._here.origins.add_cors(sent, answer, decision)
        return answer

    def _mark_private(self, answer: Response) -> None:
        headers = answer.headers
        # Each of Werkzeug's own look-ups searches the whole list, and a missing header costs an exception.
        there = {name.lower() for name, _ in headers}
        if "vary" in there:
            answer.vary.update(self._vary)
        else:
            headers.add("Vary", self._vary_text)
        if "cache-control" not in there:
            headers.add("Cache-Control", "private, no-store")
        elif "public" in headers["Cache-Control"]:
            # send_file sets public with a max_age, but shared caches must not store protected responses.
            answer.cache_control.public = False
            answer.cache_control.private = True


def forget_user(_: BaseException | None = None) -> None:
    """Remove the user that Flask-Login keeps in the application context.

    An outer application context (in tests) outlives the request, and the next request has another user.
    """
    g.pop("_login_user", None)


def _is_unread(environ: WSGIEnvironment) -> bool:
    """Return whether a proxy sent the client's address, and no ProxyFix has read it.

    Requests from public addresses are ignored: clients can forge these headers and must not fill the log.
    """
    if _FORWARDED.isdisjoint(environ):
        return False
    if _PROXY_FIX in environ:
        return False
    read = read_address(environ.get("REMOTE_ADDR", ""))
    if not read:
        # A Unix socket has no address; only this machine can connect to it.
        return True
    address = ipaddress.ip_address(read)
    return address.is_private or address.is_loopback


def _report_unread_proxy() -> None:
    """Log that all clients share one address in the throttle, with advice."""
    log_event(
        Event.CONFIGURATION_WARNING,
        detail="a proxy sends X-Forwarded-* and no ProxyFix reads it, so that the throttle counts all clients as one: "
        "set app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1), counting each proxy in front; see flask "
        "genesys-auth doctor",
    )


def _report_unreadable_address(sent: Request) -> None:
    """Log the first client address that cannot be read, with advice."""
    advice = "set app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1), counting each proxy in front"
    if _PROXY_FIX in sent.environ:
        advice = (
            "configure the proxy to write the client's address into X-Forwarded-For, as 203.0.113.9, "
            "203.0.113.9:40001 or [2001:db8::9]:40001"
        )
    log_event(
        Event.CONFIGURATION_WARNING,
        detail=f"the client address '{plain(sent.remote_addr or '', _SHOWN_ADDRESS)}' cannot be read: the throttle "
        "counts all such clients as one, and verifies their credentials at every request; " + advice,
    )


def decide() -> Decision:
    """Return the decision of the current request; the first call walks the chain.

    :raises ForeignOrigin: if another site sent the request with the user's session or password.
    """
    sent = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
    app = current_application()
    return decide_on(app, runtime(app), sent)


def decide_on(app: Flask, here: Runtime, sent: Request) -> Decision:
    """Return the decision of a request, as :func:`decide` does, for callers that have the request."""
    state: RequestState = vars(sent).setdefault(REQUEST, RequestState())
    known = state.decision
    if known is None:
        # A store that reads current_user during the walk gets an anonymous user.
        state.decision = Decision(None)
        try:
            known = here.chain.walk(sent, login_session_id)
        except BaseException:
            state.decision = None
            raise
        state.decision, state.asked = known, True
        if _must_report(known):
            events.report(known, app=app)
        if sent.method not in SAFE_METHODS:
            state.foreign = here.origins.is_foreign(sent, known)
    if state.foreign:
        raise refusals.ForeignOrigin(known)
    return known


def _must_report(decision: Decision) -> bool:
    """Return whether a decision must be reported: most are successes that are neither logged nor signalled."""
    if decision.user is None or signals.authenticated.receivers or logger.isEnabledFor(_AUTHENTICATED_LEVEL):
        return True
    return any(isinstance(record.outcome, (Rejected, Unavailable)) for record in decision.steps)


def forget_decision() -> None:
    """Discard the decision, so that the next read walks the chain again."""
    state = state_of(request)
    state.decision, state.foreign = None, False


def adopt(decision: Decision) -> None:
    """Set the decision of the current request, so that nothing walks the chain (``explain``)."""
    state_of(request).decision = decision
