"""What an application's configuration says: our own key of it, and Flask's keys that bear on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..config.build import load_settings
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..config.settings import Settings

CONFIG_KEY = "GENESYS_AUTH"


def _configuration(app: Flask) -> Any:
    if CONFIG_KEY not in app.config:
        raise ConfigurationError(
            f'app.config["{CONFIG_KEY}"] is missing; the least is '
            '{"contact_centers": {"acme": {"web_services": {}}}}'
        )
    return app.config[CONFIG_KEY]


def read_settings(app: Flask) -> Settings:
    """Read the configuration, with all that is wrong with it and with the application's own in one error.

    :raises ConfigurationError: if anything is.
    """
    problems = [*_application_problems(app)]
    try:
        settings = load_settings(_configuration(app), base_path=Path(app.instance_path), app_name=app.name)
    except ConfigurationError as error:
        raise ConfigurationError(*problems, *error.problems) from None
    if settings.saml_enabled and str(app.config["SESSION_COOKIE_SAMESITE"]).lower() == "strict":
        problems.append(
            "SESSION_COOKIE_SAMESITE: with 'Strict' the browser withholds the cookie when it comes back from the SAML "
            "identity provider; use 'Lax'"
        )
    if problems:
        raise ConfigurationError(*problems)
    return settings


def _application_problems(app: Flask) -> Iterator[str]:
    if not app.secret_key:
        yield "SECRET_KEY: set it before init_app, to at least 32 random bytes; it signs the session cookie"
    if app.config.get("LOGIN_DISABLED") and not app.testing:
        yield "LOGIN_DISABLED: it switches flask_login.login_required off; remove it (or set TESTING)"


def set_cookie_defaults(app: Flask, settings: Settings) -> None:
    """Set SameSite, and Secure where all addresses are https; HttpOnly is Flask's own default."""
    if app.config["SESSION_COOKIE_SAMESITE"] is None:
        app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    addresses = [settings.public_url, *(table.public_url for table in settings.contact_centers.values())]
    named = [address for address in addresses if address]
    if named and all(address.startswith("https://") for address in named):
        app.config["SESSION_COOKIE_SECURE"] = True
