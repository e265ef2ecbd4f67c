"""Signals of this package; the sender is the application.

Signals carry only keyword arguments, and no secrets. They are sent during the request, after the event has taken
effect: a receiver cannot change the outcome. If a receiver raises, the error is logged with its traceback (event
``receiver_failed``), and the other receivers are still called. Receivers are plain functions, not coroutines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal, Namespace

from .events import Event, log_event

_signals = Namespace()

authenticated = _signals.signal("genesys-authenticated")
"""A walk ended with a user. Sent with ``decision`` (a :class:`~flask_genesys_auth.Decision`).

Sent for users with credentials or with a login session, on every request that needs the user.
"""

rejected = _signals.signal("genesys-rejected")
"""A walk ended anonymous, and a step rejected the request's credentials. Sent with ``decision``.

``decision.steps`` holds the reasons. A wrong password in a login form counts; a refused SAML message is not a walk.
"""

unavailable = _signals.signal("genesys-unavailable")
"""A walk ended anonymous, and a step was unavailable or throttled. Sent with ``decision``.

Also sent if a login, a logout or a SAML endpoint needs a store that does not answer.
"""

logged_in = _signals.signal("genesys-logged-in")
"""A login session began. Sent with ``user``, ``contact_center``, ``step``.

``user`` is the account store's object. ``step`` is ``saml``, ``web_services``, ``configuration_server``, the name of an
extra step, or ``application`` (the application called ``login_user``).
"""

logged_out = _signals.signal("genesys-logged-out")
"""A user ended a login session, here or at a SAML provider.

Sent with ``account_id``, ``contact_center``, ``step`` (the step of the login).
"""

session_revoked = _signals.signal("genesys-session-revoked")
"""An administrator, a command or a SAML provider ended login sessions.

Sent with ``account_id`` (``None``: all accounts), ``contact_center`` (``None``: all contact centers) and ``count``,
which may be 0.
"""


def deliver(signal: NamedSignal, sender: Any, **values: Any) -> None:
    """Send a signal to all receivers, even if some of them raise.

    :param sender: the application.
    """
    if not signal.receivers or signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        _call(signal, receiver, sender, values)


def _call(signal: NamedSignal, receiver: Callable[..., Any], sender: Any, values: dict[str, Any]) -> None:
    try:
        answer = receiver(sender, **values)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("coroutine functions are not awaited; connect a plain function")
    except Exception as error:
        name = getattr(receiver, "__qualname__", type(receiver).__name__)
        log_event(Event.RECEIVER_FAILED, detail=f"receiver {name} of {signal.name}: {error}", failed=error)
