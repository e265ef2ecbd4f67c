"""Where a browser may be sent back to: paths of this host, and nothing that only looks like one."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request

from .runtime import runtime

_LONGEST = 2048


def local_path(address: str | None) -> str:
    """Return the address if it is a path of this host to which a browser may come back, else the front page.

    For ``next`` parameters of an application's own login page too. Browsers read a backslash as a slash and skip tabs
    and line breaks: an address with one of those is not kept.

    :param address: as it came from outside.
    """
    front = f"{request.root_path}/"
    if not address or not address.startswith("/") or address.startswith("//") or len(address) > _LONGEST:
        return front
    if "\\" in address or not address.isprintable():
        return front
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return front
    # Coming back to where a login begins would begin it again, for ever.
    if parts.path.startswith(f"{request.root_path}{runtime().settings.saml_url_prefix}/"):
        return front
    return address
