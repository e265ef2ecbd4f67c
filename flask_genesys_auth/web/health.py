"""Health checks of the application: secret, server, proxy, endpoints, cookies, login manager."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask
from flask_login import COOKIE_DURATION
from werkzeug.middleware.proxy_fix import ProxyFix

from ..checks import Check, installed_version
from ..config.addresses import LOOPBACK_HOSTS, is_address
from .access import policy_of
from .login import OwnLoginManager
from .policies import unknown_endpoints
from .runtime import Runtime, without_steps

if TYPE_CHECKING:
    from ..config.settings import Settings

LEAST_SECRET = 32
"""Bytes of SECRET_KEY that use the full strength of its HMAC (RFC 2104 3)."""
SHORTEST_SECRET = 16
_FEWEST_DIFFERENT = 8
_WORDS = re.compile("dev|secret|change|password|default|example|insecure|key|test|flask|1234|your")
_ANOTHER_KEY = "generate one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_FORKING = ("gunicorn", "uwsgi", "pyuwsgi")
_UNREADABLE_ADDRESSES = (
    "this command receives no request: the application logs configuration_warning at the first client address that "
    "cannot be read (over a Unix socket without ProxyFix it is empty), and the throttle counts all such clients as one"
)
_MOST_WRAPPERS = 32
_SHOWN_ENDPOINTS = 10


def secret_checks(app: Flask) -> Iterator[Check]:
    """Check whether SECRET_KEY and its fallbacks can be guessed, without showing any part of them."""
    keys = [("secret_key", app.secret_key)]
    keys += [("secret_key_fallbacks", key) for key in app.config.get("SECRET_KEY_FALLBACKS") or ()]
    for name, key in keys:
        octets = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key or b"")
        yield _secret_check(f"application.{name}", octets)


def _secret_check(name: str, key: bytes) -> Check:
    text, key_name = key.decode("latin-1").lower(), name.rpartition(".")[2].upper()
    if len(key) < SHORTEST_SECRET:
        finding = f"{key_name} is too short: an attacker can guess it and forge session cookies"
        return Check(name, "failure", finding, _ANOTHER_KEY)
    if len(set(key)) < _FEWEST_DIFFERENT or _letters(_WORDS.sub("", text)) < _letters(text) / 2:
        finding = f"{key_name} consists of repetitions or of words from examples: it can be guessed"
        return Check(name, "failure", finding, _ANOTHER_KEY)
    if len(key) < LEAST_SECRET:
        return Check(name, "warning", f"{key_name} has fewer than {LEAST_SECRET} bytes", _ANOTHER_KEY)
    return Check(name, "ok", f"{key_name} has {LEAST_SECRET} bytes or more")


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def application_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Check the application's own configuration."""
    yield from secret_checks(app)
    yield _proxy_check(app, here.settings)
    yield Check("application.client_address", "ok", _UNREADABLE_ADDRESSES)
    yield _server_check()
    public = [address for address in public_urls(here.settings) if urlsplit(address).hostname not in LOOPBACK_HOSTS]
    for flag in ("DEBUG", "TESTING"):
        if app.config.get(flag) and public:
            finding = f"{flag} is on, and {public[0]} is public"
            advice = f"start it without {flag}: error pages show internals"
            yield Check(f"application.{flag.lower()}", "warning", finding, advice)
    if app.config.get("LOGIN_DISABLED"):
        finding = "LOGIN_DISABLED disables flask_login.login_required"
        yield Check("application.login_disabled", "failure", finding, "remove it: it is for tests only")


def server_findings() -> Iterator[str]:
    """Yield a sentence for each setting of uWSGI that breaks the application."""
    # Only uWSGI provides this module, to the applications that it runs.
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
        yield (
            "uWSGI runs without threads, its default before version 2.0.27: background threads do not run between "
            "requests, and SAML metadata are not refreshed; set enable-threads = true in uWSGI's configuration"
        )


def _server_check() -> Check:
    """Name the server that runs the application, or the installed servers: doctor runs outside of them."""
    for finding in server_findings():
        problem, _, advice = finding.partition("; ")
        return Check("application.server", "warning", problem, advice)
    if "uwsgi" in sys.modules:
        return Check("application.server", "ok", "uWSGI runs the application, with threads")
    found = ", ".join(f"{name} {one}" for name in _FORKING if (one := installed_version(name)))
    finding = "this command runs outside the server and does not see its settings; installed: "
    return Check("application.server", "ok", finding + (found or "neither gunicorn nor uWSGI"))


def public_urls(settings: Settings) -> list[str]:
    """Return the public URLs of the application, without duplicates."""
    found = [settings.public_url, *(center.public_url for center in settings.contact_centers.values())]
    return list(dict.fromkeys(address for address in found if address))


def proxy_fix_of(app: Flask) -> ProxyFix | None:
    """Return the ProxyFix around the application, if any; wrappers hold the wrapped application in an attribute."""
    wrapper: Any = app.wsgi_app
    for _ in range(_MOST_WRAPPERS):
        if isinstance(wrapper, ProxyFix):
            return wrapper
        held = getattr(wrapper, "__dict__", {})
        wrapper = next((held[name] for name in ("app", "wsgi_app", "_app", "wrapped") if name in held), None)
        if wrapper is None or wrapper is app:
            return None
    return None


def _proxy_check(app: Flask, settings: Settings) -> Check:
    """Check whether the client's address is known: proxies cannot be detected from here."""
    name = "application.proxy_fix"
    fix = proxy_fix_of(app)
    if fix is not None:
        if not (fix.x_for or fix.x_proto or fix.x_host or fix.x_port or fix.x_prefix):
            return Check(name, "ok", "ProxyFix trusts no proxy: X-Forwarded headers are ignored")
        trusted = f"x_for={fix.x_for}, x_proto={fix.x_proto}, x_host={fix.x_host}"
        if not fix.x_for:
            finding = f"ProxyFix ({trusted}) does not set the client address: the throttle counts all clients as one"
            advice = "set ProxyFix(app.wsgi_app, x_for=1, ...), counting each proxy in front"
            return Check(name, "warning", finding, advice)
        return Check(name, "ok", f"ProxyFix: {trusted}; the number of proxies in front must match")
    if not any(address.startswith("https://") for address in public_urls(settings)):
        return Check(name, "ok", "no ProxyFix, and no https public_url that a proxy would serve")
    return Check(
        name,
        "warning",
        "public_url is https, and no ProxyFix wraps wsgi_app: if a proxy terminates TLS, the throttle counts all "
        "clients as one",
        "set app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1), counting each proxy in front; if the server "
        "itself terminates TLS, set ProxyFix(app.wsgi_app, x_for=0, x_proto=0)",
    )


def access_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """List the unprotected endpoints, and check the endpoints that the configuration names."""
    for finding in (*without_steps(here), *unknown_endpoints(app, here.settings)):
        place, _, problem = finding.partition(": ")
        yield Check(f"access.{place}", "warning", problem, f"correct {place}, or remove it")
    names = sorted({rule.endpoint for rule in app.url_map.iter_rules() if rule.endpoint in app.view_functions})
    own = [name for name in names if not name.startswith(("genesys_auth.", "genesys_saml."))]
    unprotected = [name for name in own if not policy_of(app, name).protected]
    shown = ", ".join(unprotected[:_SHOWN_ENDPOINTS]) + (", ..." if len(unprotected) > _SHOWN_ENDPOINTS else "")
    finding = f"{len(own) - len(unprotected)} protected, {len(unprotected)} unprotected"
    yield Check("access.endpoints", "ok", f"{finding}: {shown}" if shown else finding)
    view = here.settings.login_view
    if view in app.view_functions and policy_of(app, view).protected:
        finding = f"login_view {view!r} is protected itself: the redirect to it loops"
        yield Check("access.login_view", "failure", finding, "mark that view @unprotected")


def cookie_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Check the session cookie."""
    addresses = public_urls(here.settings)
    found = [
        *_protection_checks(app, addresses),
        *(check for address in addresses for check in _reach_checks(app, here.settings, address)),
        *_name_checks(app, here.settings, addresses),
    ]
    yield from found
    if not found:
        config, kind = app.config, app.session_interface
        flags = [f"SameSite={config['SESSION_COOKIE_SAMESITE']}", f"path {kind.get_cookie_path(app)}"]
        flags += ["HttpOnly"] + (["Secure"] if config["SESSION_COOKIE_SECURE"] else [])
        yield Check("cookies.session", "ok", f"cookie {kind.get_cookie_name(app)}: {', '.join(flags)}")


def _protection_checks(app: Flask, addresses: list[str]) -> Iterator[Check]:
    config = app.config
    same_site = str(config["SESSION_COOKIE_SAMESITE"] or "")
    https = [address for address in addresses if address.startswith("https://")]
    open_ = [one for one in addresses if one not in https and urlsplit(one).hostname not in LOOPBACK_HOSTS]
    if https and not config["SESSION_COOKIE_SECURE"]:
        finding = f"the session cookie is not Secure, although {https[0]} is https: browsers also send it over http"
        yield Check("cookies.secure", "failure", finding, "set SESSION_COOKIE_SECURE = True")
    if open_ and config["SESSION_COOKIE_SECURE"]:
        finding = f"the session cookie is Secure, but {open_[0]} is http: browsers do not store it"
        yield Check("cookies.secure", "failure", finding, "set public_url to an https URL")
    if not config["SESSION_COOKIE_HTTPONLY"]:
        finding = "scripts can read the session cookie"
        yield Check("cookies.httponly", "warning", finding, "set SESSION_COOKIE_HTTPONLY = True")
    if same_site.lower() == "none":
        if not config["SESSION_COOKIE_SECURE"]:
            finding = "SameSite=None without Secure: browsers reject the session cookie"
            advice = "serve over https, and set SESSION_COOKIE_SECURE = True"
            yield Check("cookies.samesite", "failure", finding, advice)
        else:
            finding = "SameSite=None: any site can make browsers send the session cookie"
            advice = "use 'Lax', unless the application must run in a frame of another site"
            yield Check("cookies.samesite", "warning", finding, advice)


def _reach_checks(app: Flask, settings: Settings, address: str) -> Iterator[Check]:
    """Check that browsers send the cookie to a public URL, and not to other hosts."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    domain = (app.session_interface.get_cookie_domain(app) or "").lstrip(".").lower()
    if domain and host != domain and not host.endswith(f".{domain}"):
        finding = f"SESSION_COOKIE_DOMAIN is {domain}: browsers do not accept this cookie from {host}"
        yield Check("cookies.domain", "failure", finding, "remove SESSION_COOKIE_DOMAIN")
    elif domain:
        finding = f"SESSION_COOKIE_DOMAIN is {domain}: browsers send the session cookie to all hosts below it"
        advice = "remove SESSION_COOKIE_DOMAIN: the cookie is then sent to this host only"
        yield Check("cookies.domain", "warning", finding, advice)
    path = app.session_interface.get_cookie_path(app).rstrip("/")
    ours = f"{parts.path}{settings.saml_url_prefix if settings.saml_enabled else ''}/"
    if not ours.startswith(f"{path}/"):
        finding = f"the session cookie is for {path}, which does not cover {address}{settings.saml_url_prefix}"
        advice = "set SESSION_COOKIE_PATH to the path of public_url, or remove it"
        yield Check("cookies.path", "failure", finding, advice)


def _name_checks(app: Flask, settings: Settings, addresses: list[str]) -> Iterator[Check]:
    """Find identity providers on our host with Flask's default cookie name: cookies ignore ports (RFC 6265 8.5)."""
    ours = {urlsplit(address).hostname for address in addresses}
    if app.session_interface.get_cookie_name(app) != "session":
        return
    for center in settings.contact_centers.values():
        for name, provider in (center.saml.identity_providers if center.saml else {}).items():
            where = str(provider.metadata)
            if is_address(where) and urlsplit(where).hostname in ours:
                finding = (
                    f"the provider runs on this application's host {urlsplit(where).hostname}; cookies ignore ports: "
                    "an application there with a cookie named session ends the logins here"
                )
                advice = 'set SESSION_COOKIE_NAME = "portal_session", or another unique name'
                yield Check(f"cookies.{center.name}.{name}", "warning", finding, advice)


def flask_login_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Check the settings of Flask-Login, if the application has its own manager."""
    manager = app.login_manager  # type: ignore[attr-defined]  # set by Flask-Login
    if isinstance(manager, OwnLoginManager):
        yield Check("flask_login.manager", "ok", "built in: no session protection, no remember cookie")
        return
    found = [*_manager_checks(manager), *_remember_checks(app, here)]
    yield from found
    if not found:
        yield Check("flask_login.manager", "ok", "the application's own")


def _manager_checks(manager: Any) -> Iterator[Check]:
    if manager.session_protection == "strong":
        finding = (
            'session_protection is "strong": it trusts the first X-Forwarded-For value and User-Agent, discards '
            "sessions when they change, and ignores credentials in headers if there is a session"
        )
        advice = "set login_manager.session_protection = None: login sessions are kept on the server and can be revoked"
        yield Check("flask_login.session_protection", "warning", finding, advice)
    if manager.login_view or manager.blueprint_login_views:
        finding = "login_manager.login_view is ignored: this extension answers refusals"
        yield Check("flask_login.login_view", "warning", finding, 'set login_view in app.config["GENESYS_AUTH"]')


def _remember_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    config = app.config
    https = [address for address in public_urls(here.settings) if address.startswith("https://")]
    if https and not config.get("REMEMBER_COOKIE_SECURE"):
        finding = f"the remember cookie is not Secure, although {https[0]} is https"
        yield Check("flask_login.remember_cookie_secure", "warning", finding, "set REMEMBER_COOKIE_SECURE = True")
    if not config.get("REMEMBER_COOKIE_HTTPONLY", True):
        finding = "scripts can read the remember cookie"
        yield Check("flask_login.remember_cookie_httponly", "warning", finding, "remove REMEMBER_COOKIE_HTTPONLY")
    if config.get("REMEMBER_COOKIE_REFRESH_EACH_REQUEST"):
        finding = "each response sets a remember cookie, also for clients that sent credentials in headers"
        advice = "remove REMEMBER_COOKIE_REFRESH_EACH_REQUEST"
        yield Check("flask_login.remember_cookie_refresh", "warning", finding, advice)
    duration = config.get("REMEMBER_COOKIE_DURATION", COOKIE_DURATION)
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if "REMEMBER_COOKIE_DURATION" in config and seconds > here.settings.session.absolute_timeout:
        finding = "REMEMBER_COOKIE_DURATION is longer than session.absolute_timeout, at which the login ends"
        advice = "raise session.absolute_timeout, or reduce REMEMBER_COOKIE_DURATION"
        yield Check("flask_login.remember_cookie_duration", "warning", finding, advice)
