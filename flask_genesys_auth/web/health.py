"""What the application around us says of its health: its secret, its cookies, its proxy, its endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from ..checks import Check
from ..config.addresses import LOOPBACK_HOSTS
from .access import policy_of
from .policies import unknown_endpoints
from .runtime import Runtime, without_steps
from .server import server_check

if TYPE_CHECKING:
    from ..config.settings import Settings

LEAST_SECRET = 32
"""Bytes of SECRET_KEY: as many as its HMAC can use the strength of (RFC 2104 3)."""
SHORTEST_SECRET = 16
_FEWEST_DIFFERENT = 8
_WORDS = (
    "dev",
    "secret",
    "change",
    "password",
    "default",
    "example",
    "insecure",
    "key",
    "test",
    "flask",
    "1234",
    "your",
)
_ANOTHER_KEY = "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_MOST_WRAPPERS = 32
_SHOWN_ENDPOINTS = 10


def secret_checks(app: Flask) -> Iterator[Check]:
    """Yield whether SECRET_KEY and its fallbacks could be guessed; nothing of them is shown."""
    keys = [("secret_key", app.secret_key)]
    keys += [("secret_key_fallbacks", key) for key in app.config.get("SECRET_KEY_FALLBACKS") or ()]
    for name, key in keys:
        octets = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key or b"")
        yield _secret_check(f"application.{name}", octets)


def _secret_check(name: str, key: bytes) -> Check:
    text, key_name = key.decode("latin-1").lower(), name.rpartition(".")[2].upper()
    if len(key) < SHORTEST_SECRET:
        finding = f"{key_name} is too short: it can be guessed, and then anybody makes session cookies"
        return Check(name, "failure", finding, _ANOTHER_KEY)
    rest = text
    for word in _WORDS:
        rest = rest.replace(word, "")
    if len(set(key)) < _FEWEST_DIFFERENT or _letters(rest) < _letters(text) / 2:
        finding = f"{key_name} is made of repetitions or of words that examples use: it can be guessed"
        return Check(name, "failure", finding, _ANOTHER_KEY)
    if len(key) < LEAST_SECRET:
        return Check(name, "warning", f"{key_name} has less than {LEAST_SECRET} bytes", _ANOTHER_KEY)
    return Check(name, "ok", f"{key_name} has {LEAST_SECRET} bytes or more")


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def application_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Yield what bites in the application's own configuration."""
    yield from secret_checks(app)
    yield _proxy_check(app, here.settings)
    yield server_check()
    public = [address for address in public_urls(here.settings) if urlsplit(address).hostname not in LOOPBACK_HOSTS]
    for flag in ("DEBUG", "TESTING"):
        if app.config.get(flag) and public:
            yield Check(
                f"application.{flag.lower()}",
                "warning",
                f"{flag} is on, and {public[0]} is public",
                f"start it without {flag}: errors show what nobody should see",
            )
    if app.config.get("LOGIN_DISABLED"):
        finding = "LOGIN_DISABLED switches flask_login.login_required off"
        yield Check("application.login_disabled", "failure", finding, "remove it: it is for tests only")


def public_urls(settings: Settings) -> list[str]:
    """Return what the outside calls the application, each address once."""
    found = [settings.public_url, *(center.public_url for center in settings.contact_centers.values())]
    return list(dict.fromkeys(address for address in found if address))


def proxy_fix_of(app: Flask) -> ProxyFix | None:
    """Return the ProxyFix around the application, if there is one; middleware keeps what it wraps in an attribute."""
    wrapper: Any = app.wsgi_app
    for _ in range(_MOST_WRAPPERS):
        if isinstance(wrapper, ProxyFix):
            return wrapper
        inner = next(
            (vars(wrapper)[name] for name in ("app", "wsgi_app", "_app", "wrapped") if name in _vars(wrapper)), None
        )
        if inner is None or inner is app:
            return None
        wrapper = inner
    return None


def _vars(value: Any) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


def _proxy_check(app: Flask, settings: Settings) -> Check:
    """Say whether the client's address can be known: what stands before the server cannot be seen from here."""
    name = "application.proxy_fix"
    fix = proxy_fix_of(app)
    if fix is not None:
        if not (fix.x_for or fix.x_proto or fix.x_host or fix.x_port or fix.x_prefix):
            return Check(name, "ok", "ProxyFix says that no proxy is in front: nothing that a client sends is believed")
        trusted = f"x_for={fix.x_for}, x_proto={fix.x_proto}, x_host={fix.x_host}"
        if not fix.x_for:
            finding = f"ProxyFix ({trusted}) takes no client address: all clients count as one for the throttle"
            return Check(name, "warning", finding, "ProxyFix(app.wsgi_app, x_for=1, ...): one for each proxy in front")
        return Check(name, "ok", f"ProxyFix: {trusted}; there must be exactly as many proxies in front")
    if not any(address.startswith("https://") for address in public_urls(settings)):
        return Check(name, "ok", "no ProxyFix, and no https address that a proxy would serve")
    return Check(
        name,
        "warning",
        "public_url is https, and no ProxyFix wraps wsgi_app: if a proxy ends TLS, all clients are one address to the "
        "throttle",
        "app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1) for exactly the proxies in front; if the server "
        "itself ends TLS, say that there is none: ProxyFix(app.wsgi_app, x_for=0, x_proto=0)",
    )


def access_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Yield which endpoints everybody reaches, and names in the configuration that lead nowhere."""
    for finding in (*without_steps(here), *unknown_endpoints(app, here.settings)):
        place, _, said = finding.partition(": ")
        yield Check(f"access.{place}", "warning", said, f"correct {place}, or remove it")
    names = sorted({rule.endpoint for rule in app.url_map.iter_rules() if rule.endpoint in app.view_functions})
    own = [name for name in names if not name.startswith(("genesys_auth.", "genesys_saml."))]
    unprotected = [name for name in own if not policy_of(app, name).protected]
    shown = ", ".join(unprotected[:_SHOWN_ENDPOINTS]) + (", ..." if len(unprotected) > _SHOWN_ENDPOINTS else "")
    finding = f"{len(own) - len(unprotected)} protected, {len(unprotected)} open"
    yield Check("access.endpoints", "ok", f"{finding}: {shown}" if shown else finding)
    view = here.settings.login_view
    if view in app.view_functions and policy_of(app, view).protected:
        finding = f"login_view {view!r} is protected itself: who is sent there is sent there again, for ever"
        yield Check("access.login_view", "failure", finding, "mark that view @unprotected")
