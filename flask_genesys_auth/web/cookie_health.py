"""What the cookies say of their health: whether the browser keeps them, sends them, and sends them nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask
from flask_login import COOKIE_DURATION

from ..checks import Check
from ..config.addresses import LOOPBACK_HOSTS, is_address
from .health import public_urls
from .login import OwnLoginManager
from .runtime import Runtime

if TYPE_CHECKING:
    from ..config.settings import Settings


def cookie_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Yield what is to be said of the session cookie."""
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
        yield Check("cookies.session", "ok", f"{kind.get_cookie_name(app)}: {', '.join(flags)}")


def _protection_checks(app: Flask, addresses: list[str]) -> Iterator[Check]:
    config = app.config
    same_site = str(config["SESSION_COOKIE_SAMESITE"] or "")
    https = [address for address in addresses if address.startswith("https://")]
    open_ = [one for one in addresses if one not in https and urlsplit(one).hostname not in LOOPBACK_HOSTS]
    if https and not config["SESSION_COOKIE_SECURE"]:
        finding = f"the session cookie goes out without Secure, though {https[0]} is https: plain http would carry it"
        yield Check("cookies.secure", "failure", finding, "SESSION_COOKIE_SECURE = True")
    if open_ and config["SESSION_COOKIE_SECURE"]:
        finding = f"the session cookie is Secure, but {open_[0]} is plain http: no browser keeps it there"
        yield Check("cookies.secure", "failure", finding, "give public_url an https address")
    if not config["SESSION_COOKIE_HTTPONLY"]:
        finding = "scripts can read the session cookie"
        yield Check("cookies.httponly", "warning", finding, "SESSION_COOKIE_HTTPONLY = True")
    if same_site.lower() == "none":
        if not config["SESSION_COOKIE_SECURE"]:
            finding = "SameSite=None without Secure: browsers drop the session cookie"
            yield Check("cookies.samesite", "failure", finding, "serve over https, SESSION_COOKIE_SECURE = True")
        else:
            finding = "SameSite=None: every other site makes the browser send the session cookie"
            yield Check(
                "cookies.samesite", "warning", finding, "use 'Lax', unless the application must live in another's frame"
            )


def _reach_checks(app: Flask, settings: Settings, address: str) -> Iterator[Check]:
    """Find addresses at which the browser would not send the cookie."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    domain = (app.session_interface.get_cookie_domain(app) or "").lstrip(".").lower()
    if domain and host != domain and not host.endswith(f".{domain}"):
        finding = f"SESSION_COOKIE_DOMAIN is {domain}: browsers keep no such cookie of {host}"
        yield Check("cookies.domain", "failure", finding, "leave SESSION_COOKIE_DOMAIN out")
    elif domain:
        finding = f"SESSION_COOKIE_DOMAIN is {domain}: every host below it gets the session cookie"
        yield Check(
            "cookies.domain", "warning", finding, "leave SESSION_COOKIE_DOMAIN out: the cookie is the host's own"
        )
    path = app.session_interface.get_cookie_path(app).rstrip("/")
    ours = f"{parts.path}{settings.saml_url_prefix if settings.saml_enabled else ''}/"
    if not ours.startswith(f"{path}/"):
        finding = f"the session cookie is for {path}, which {address}{settings.saml_url_prefix} is not below"
        yield Check(
            "cookies.path", "failure", finding, "set SESSION_COOKIE_PATH to the path of public_url, or leave it out"
        )


def _name_checks(app: Flask, settings: Settings, addresses: list[str]) -> Iterator[Check]:
    """Find identity providers on our own host with Flask's usual cookie name: cookies know no ports (RFC 6265 8.5)."""
    ours = {urlsplit(address).hostname for address in addresses}
    if app.session_interface.get_cookie_name(app) != "session":
        return
    for center in settings.contact_centers.values():
        for name, provider in (center.saml.identity_providers if center.saml else {}).items():
            where = str(provider.metadata)
            if is_address(where) and urlsplit(where).hostname in ours:
                yield Check(
                    f"cookies.{center.name}.{name}",
                    "warning",
                    f"{urlsplit(where).hostname} is this application's host too, and cookies do not tell ports apart: "
                    "another application there with a cookie named session ends the logins here",
                    'SESSION_COOKIE_NAME = "portal_session", or any other name of its own',
                )


def flask_login_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    """Yield the settings of Flask-Login that bite, where the application brings its own manager."""
    manager = app.login_manager  # type: ignore[attr-defined]  # of Flask-Login
    if isinstance(manager, OwnLoginManager):
        yield Check("flask_login.manager", "ok", "our own: no session protection, no remember cookie")
        return
    found = [*_manager_checks(manager), *_remember_checks(app, here)]
    yield from found
    if not found:
        yield Check("flask_login.manager", "ok", "the application's own")


def _manager_checks(manager: Any) -> Iterator[Check]:
    if manager.session_protection == "strong":
        finding = (
            'session_protection is "strong": it trusts the first X-Forwarded-For value and User-Agent, throws sessions '
            "away when they change, and overlooks credentials in headers where a session has begun"
        )
        advice = "login_manager.session_protection = None: login sessions are kept on the server and can be revoked"
        yield Check("flask_login.session_protection", "warning", finding, advice)
    if manager.login_view or manager.blueprint_login_views:
        finding = "login_manager.login_view is not looked at: refusals are answered here"
        yield Check("flask_login.login_view", "warning", finding, 'set login_view in app.config["GENESYS_AUTH"]')


def _remember_checks(app: Flask, here: Runtime) -> Iterator[Check]:
    config = app.config
    https = [address for address in public_urls(here.settings) if address.startswith("https://")]
    if https and not config.get("REMEMBER_COOKIE_SECURE"):
        finding = f"the remember cookie goes out without Secure, though {https[0]} is https"
        yield Check("flask_login.remember_cookie_secure", "warning", finding, "REMEMBER_COOKIE_SECURE = True")
    if not config.get("REMEMBER_COOKIE_HTTPONLY", True):
        finding = "scripts can read the remember cookie"
        yield Check("flask_login.remember_cookie_httponly", "warning", finding, "leave REMEMBER_COOKIE_HTTPONLY out")
    if config.get("REMEMBER_COOKIE_REFRESH_EACH_REQUEST"):
        finding = "each answer sets a remember cookie, also to clients that sent credentials in headers"
        yield Check(
            "flask_login.remember_cookie_refresh",
            "warning",
            finding,
            "leave REMEMBER_COOKIE_REFRESH_EACH_REQUEST out",
        )
    duration = config.get("REMEMBER_COOKIE_DURATION", COOKIE_DURATION)
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if "REMEMBER_COOKIE_DURATION" in config and seconds > here.settings.session.absolute_timeout:
        finding = "REMEMBER_COOKIE_DURATION is longer than session.absolute_timeout, which ends the login all the same"
        advice = "raise session.absolute_timeout, or shorten the cookie's life"
        yield Check("flask_login.remember_cookie_duration", "warning", finding, advice)
