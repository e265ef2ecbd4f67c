"""Health checks of the configuration: relaxations, file permissions, stores without verified TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from ..checks import Check, file_checks
from .addresses import LOOPBACK_HOSTS, plain_http
from .databases import is_redis, redis_address
from .settings import ContactCenterSettings, Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_LIBPQ = {"psycopg", "psycopg2", "psycopg2cffi"}
"""Drivers that pass the options of a URL to libpq."""

_NETWORK = "or accept this if no attacker can reach that network"


def configuration_checks(settings: Settings) -> Iterator[Check]:
    """Yield the checks of the settings themselves."""
    names = ", ".join(settings.contact_centers)
    default = f"; the default is {settings.default_contact_center}" if settings.default_contact_center else ""
    yield Check("configuration.contact_centers", "ok", f"{len(settings.contact_centers)} configured: {names}{default}")
    base = settings.base_path
    if base.is_dir():
        yield Check("configuration.base_path", "ok", f"relative paths start from {base}")
    else:
        yield Check(
            "configuration.base_path",
            "warning",
            f"relative paths start from {base}, which is not a folder",
            "create the folder, or set base_path",
        )
    if not settings.protect_by_default:
        yield Check(
            "configuration.protect_by_default",
            "warning",
            "endpoints without a decorator are unprotected",
            "decorate public endpoints with @unprotected, then remove protect_by_default = false",
        )
    yield from _http_checks(settings)
    yield from _store_checks(settings)


def files_checks(settings: Settings) -> Iterator[Check]:
    """Yield the permission checks of each file that the configuration names."""
    seen = set()
    for one in settings.files:
        if (one.path, one.secret) not in seen:
            seen.add((one.path, one.secret))
            yield from file_checks(f"files.{one.key}", one.path, secret=one.secret)


def _http_checks(settings: Settings) -> Iterator[Check]:
    if plain_http(settings.public_url):
        yield _plain_http_check("public_url", settings.public_url)
    for center in settings.contact_centers.values():
        for key, address in _urls(center):
            if plain_http(address):
                yield _plain_http_check(f"contact_centers.{center.name}.{key}", address)


def _urls(center: ContactCenterSettings) -> Iterator[tuple[str, str]]:
    yield "public_url", center.public_url
    for origin in sorted(center.allowed_origins):
        yield "allowed_origins", origin
    if center.salesforce is not None:
        for key in ("identity_hosts", "redirect_hosts"):
            for host in getattr(center.salesforce, key):
                yield f"salesforce.{key}", str(host)
    if center.configuration_server is not None:
        yield "configuration_server.url", center.configuration_server.url


def _plain_http_check(key: str, address: str) -> Check:
    finding = f"{address} is plain http (allow_http): attackers on the network can read passwords and session ids"
    return Check(f"configuration.{key}.allow_http", "warning", finding, "use an https URL, then remove allow_http")


def _store_checks(settings: Settings) -> Iterator[Check]:
    """Yield a warning for each remote store whose connection has no TLS, or TLS that does not verify the server."""
    stores = {
        "state_url": settings.state_url,
        "accounts_url": settings.accounts_url,
        "throttle.storage_url": settings.throttle.storage_url,
    }
    for key, url in stores.items():
        if key != "state_url" and url == settings.state_url:
            continue
        name = f"configuration.{key}.tls"
        if is_redis(url):
            # A Unix socket has no host: nothing leaves the machine.
            hosts = () if url.startswith("rediss:") else redis_address(url).hosts
            away = [host for host, _ in hosts if _is_remote(host)]
            if away:
                names = ", ".join(away)
                finding = f"connections to {names} have no TLS: attackers on the network can read and change the state"
                yield Check(name, "warning", finding, f"enable TLS in Redis and use a rediss:// URL, {_NETWORK}")
        elif url.startswith("postgresql"):
            yield from _postgresql(name, make_url(url))


def _postgresql(name: str, url: URL) -> Iterator[Check]:
    if url.get_driver_name() not in _LIBPQ:
        return
    mode = _option(url, "sslmode", "PGSSLMODE")
    if mode == "verify-full" or ("service" in url.query and not mode):
        return
    # libpq connects to hostaddr if it is given, and to a local socket without any host.
    hosts = _option(url, "hostaddr", "PGHOSTADDR") or _option(url, "host", "PGHOST", url.host or "")
    away = [host for host in map(_without_port, hosts.split(",")) if _is_remote(host)]
    if away:
        finding = f"{', '.join(away)}: the server is not verified (sslmode {mode or 'prefer'})"
        advice = (
            f"enable TLS in PostgreSQL, add sslmode=verify-full and sslrootcert=AUTHORITY.pem to the URL, {_NETWORK}"
        )
        yield Check(name, "warning", finding, advice)


def _option(url: URL, name: str, variable: str, otherwise: str = "") -> str:
    """Return an option of a URL, or the environment variable that libpq reads instead."""
    given = url.query.get(name, otherwise)
    return (given if isinstance(given, str) else ",".join(given)) or os.environ.get(variable, "")


def _without_port(host: str) -> str:
    """Return a host without the port that SQLAlchemy leaves on it."""
    name, separator, port = host.rpartition(":")
    return name.strip("[]") if separator and port.isdigit() and (":" not in name or name[0] == "[") else host


def _is_remote(host: str) -> bool:
    """Return whether a connection leaves this machine; a socket's host is a path or empty."""
    if not host or host.startswith(("/", "@")) or host.lower() in LOOPBACK_HOSTS:
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True
