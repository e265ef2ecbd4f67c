"""Reads the configuration and assembles the application."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.errors import ConfigurationError

from . import api, pages

CONFIGURATION = "GENESYS_AUTH_CONFIG"
"""The environment variable that names the configuration of :func:`create_app`."""


def create_app() -> Flask:
    """Build the application from the configuration file in the environment variable ``GENESYS_AUTH_CONFIG``.

    :raises ConfigurationError: if the variable is not set, or the configuration is invalid.
    """
    named = os.environ.get(CONFIGURATION)
    if not named:
        raise ConfigurationError(
            f"{CONFIGURATION}: is not set; set it to a TOML file, or run the demonstration with `python -m sample_app`"
        )
    path = Path(named)
    return build_app(read_configuration(path), path.absolute().parent)


def build_app(configuration: Mapping[str, Any], folder: Path) -> Flask:
    """Build the application.

    :param configuration: ``SECRET_KEY``, ``GENESYS_AUTH`` and other settings of Flask. ``SAMPLE_DEMONSTRATION`` shows
        the reasons of the walk to all clients, not only to ``ROLE_ADMIN``. ``SAMPLE_PROXIES`` is the number of proxies
        in front that set ``X-Forwarded-For`` and ``X-Forwarded-Proto``.
    :param folder: the absolute base folder for relative paths in the configuration.
    :raises ConfigurationError: with all problems of the configuration.
    """
    app = Flask(__name__, instance_path=str(folder))
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.config.from_mapping(configuration)
    app.config.from_prefixed_env()
    auth = GenesysAuth()
    demonstration = app.config.get("SAMPLE_DEMONSTRATION") is True
    app.register_blueprint(pages.create_blueprint(auth, demonstration=demonstration))
    app.register_blueprint(api.create_blueprint(auth, demonstration=demonstration))
    auth.init_app(app)
    proxies = _proxies(app)
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=0)  # type: ignore[method-assign]
    return app


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a configuration file: TOML, or JSON if its name ends in ``.json``.

    :raises ConfigurationError: if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = json.loads(text) if path.suffix == ".json" else _parse_toml(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: must contain a table of settings")
    return found


def _proxies(app: Flask) -> int:
    found = app.config.get("SAMPLE_PROXIES", 0)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ConfigurationError("SAMPLE_PROXIES: must be the number of proxies in front, 0 for none")
    return found


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise ConfigurationError(
                "TOML needs the package tomli before Python 3.11: pip install 'flask-genesys-auth[sample]'"
            ) from error
    return tomllib.loads(text)
