"""Stores that are spoken to over a network without TLS that verifies the server's name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from ..checks import Check
from .values import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from .values import Settings

_LIBPQ = {"psycopg", "psycopg2", "psycopg2cffi"}
"""Drivers whose addresses have libpq's options."""

_NETWORK = "or accept it where nobody else is on that network"


def store_checks(settings: Settings) -> Iterator[Check]:
    """Yield a warning for each store that is spoken to in the open."""
    stores = {
        "state_url": settings.state_url,
        "accounts_url": settings.accounts_url,
        "throttle.storage_url": settings.throttle.storage_url,
    }
    for key, url in stores.items():
        if key != "state_url" and url == settings.state_url:
            continue
        name = f"configuration.{key}.tls"
        if url.startswith("redis://"):
            host = urlsplit(url).hostname or ""
            if _leaves(host):
                finding = f"{host} is spoken to in the open: who is on the way reads and changes what is kept"
                yield Check(name, "warning", finding, f"let Redis speak TLS, and name it by rediss://; {_NETWORK}")
        elif url.startswith("postgresql"):
            yield from _postgresql(name, make_url(url))


def _postgresql(name: str, url: URL) -> Iterator[Check]:
    if url.get_driver_name() not in _LIBPQ:
        return
    mode = _option(url, "sslmode", "PGSSLMODE")
    if mode == "verify-full" or ("service" in url.query and not mode):
        return
    # What libpq connects to is hostaddr, where that is given; without any it is a socket of this machine.
    hosts = _option(url, "hostaddr", "PGHOSTADDR") or _option(url, "host", "PGHOST", url.host or "")
    away = [host for host in map(_bare, hosts.split(",")) if _leaves(host)]
    if away:
        finding = f"{', '.join(away)}: the server is not verified (sslmode {mode or 'prefer'})"
        advice = f"let PostgreSQL speak TLS, add sslmode=verify-full and sslrootcert=AUTHORITY.pem; {_NETWORK}"
        yield Check(name, "warning", finding, advice)


def _option(url: URL, name: str, variable: str, otherwise: str = "") -> str:
    """Return what an address says of an option, else what libpq takes from the environment."""
    given = url.query.get(name, otherwise)
    return (given if isinstance(given, str) else ",".join(given)) or os.environ.get(variable, "")


def _bare(host: str) -> str:
    """Return a host without the port that SQLAlchemy lets stand behind it."""
    name, separator, port = host.rpartition(":")
    return name.strip("[]") if separator and port.isdigit() and (":" not in name or name[0] == "[") else host


def _leaves(host: str) -> bool:
    """Tell whether what is sent there leaves this machine: not by a socket, which has a path or no host."""
    if not host or host.startswith(("/", "@")) or host.lower() in LOOPBACK_HOSTS:
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True
