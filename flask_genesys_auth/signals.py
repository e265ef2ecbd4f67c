"""Signals that an application may listen to; each is sent with the application as sender.

All carry keyword arguments only, none of them a secret. They are sent in the request that they are about, once what
they tell is so: a receiver cannot change it any more. A receiver that raises changes nothing either: it is an error
in the log (the event ``receiver_failed``, with its traceback), and the others are called all the same. Receivers are
plain functions, not coroutines.
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

For users who send credentials, and for those with a login session, at every request that asks who they are.
"""

rejected = _signals.signal("genesys-rejected")
"""A walk ended anonymous, and a step had rejected what the request offered. Sent with ``decision``.

Its ``steps`` have the reasons. A wrong login form is one too; a refused SAML message is not a walk.
"""

unavailable = _signals.signal("genesys-unavailable")
"""A walk ended anonymous, and a step could not be asked, or was throttled. Sent with ``decision``.

Also where a login, a logout or a SAML address needs a store that does not answer.
"""

logged_in = _signals.signal("genesys-logged-in")
"""A login session was made. Sent with ``user``, ``contact_center``, ``step``.

``user`` is the account store's own object; ``step`` is ``saml``, ``web_services``, ``configuration_server``, the name
of a step of the application's, or ``application`` (its own ``login_user``).
"""

logged_out = _signals.signal("genesys-logged-out")
"""A login session was ended by its user, here or at a SAML provider.

Sent with ``account_id``, ``contact_center``, ``step`` (the one that had made it).
"""

session_revoked = _signals.signal("genesys-session-revoked")
"""Login sessions were ended from outside: by an administrator, or by a SAML provider's word.

Sent with ``account_id`` (``None``: of all accounts), ``contact_center`` (``None``: of all contact centers) and
``count``, which may be 0.
"""


def deliver(signal: NamedSignal, sender: Any, **values: Any) -> None:
    """Send a signal to each receiver, whatever becomes of the others.

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
            raise TypeError("it is a coroutine function, and nobody waits for it here: connect a plain function")
    except Exception as error:
        name = getattr(receiver, "__qualname__", type(receiver).__name__)
        log_event(Event.RECEIVER_FAILED, detail=f"receiver {name} of {signal.name}: {error}", failed=error)
