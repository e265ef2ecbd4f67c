"""Notices a proxy whose word about the client nobody reads: then all clients are one address to the throttle."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ..events import Event, tell

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEADERS = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"})
"""Where a proxy says who the client is, and how it was reached."""
_READ = "werkzeug.proxy_fix.orig"
"""What ProxyFix leaves behind, wherever it stands."""


def is_unread(environ: WSGIEnvironment) -> bool:
    """Tell whether a proxy beside us has said who the client is, and no ProxyFix has read it.

    Whoever comes from a public address may have made these headers up, which must not fill the log.
    """
    if HEADERS.isdisjoint(environ):
        return False
    if _READ in environ:
        return False
    try:
        address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        # A socket of Unix has no address: only this machine can connect there.
        return True
    return address.is_private or address.is_loopback


def tell_unread() -> None:
    """Say so in the log, with what to do."""
    tell(
        Event.CONFIGURATION_WARNING,
        detail="a proxy sends X-Forwarded-* and no ProxyFix reads it, so that all clients are one address to the "
        "throttle: set app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1) for exactly the proxies in front, see "
        "flask genesys-auth doctor",
    )
