"""Signals that an application may listen to; each is sent with the application as sender.

All carry keyword arguments only, none of them a secret: ``decision`` (a :class:`~flask_genesys_auth.Decision`)
for the outcome of a walk; ``user``, ``contact_center`` and ``step`` for a login; ``account_id`` and
``contact_center`` for a logout and a revocation.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

authenticated = _signals.signal("genesys-authenticated")
"""A walk ended with a user. Sent with ``decision``."""

rejected = _signals.signal("genesys-rejected")
"""A walk ended anonymous and a step had rejected what the request offered. Sent with ``decision``."""

unavailable = _signals.signal("genesys-unavailable")
"""A walk ended anonymous and a step could not be asked. Sent with ``decision``."""

logged_in = _signals.signal("genesys-logged-in")
"""A login session was made. Sent with ``user``, ``contact_center``, ``step``."""

logged_out = _signals.signal("genesys-logged-out")
"""A login session was ended by its user, here or at a SAML provider.

Sent with ``account_id``, ``contact_center``, ``step``.
"""

session_revoked = _signals.signal("genesys-session-revoked")
"""Login sessions were ended from outside: by an administrator, or by a SAML provider's word.

Sent with ``account_id``, ``contact_center``, ``count``.
"""
