"""SQLAlchemy addresses in the configuration: what is accepted, and SQLite files made absolute."""

from __future__ import annotations

import re
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from marshmallow import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MEMORY = "memory://"
DEFAULT_STATE = "sqlite:///state.sqlite3"
DEFAULT_ACCOUNTS = "sqlite:///accounts.sqlite3"

_STATE = (
    'must be "memory://", the address of a SQLite file such as "sqlite:///state.sqlite3", of a PostgreSQL database '
    'such as "postgresql+psycopg://user@db.internal/portal", or of a Redis server such as "redis://redis.internal:6379/0"'
)
_INSTALL = "needs a package that is not installed: pip install 'flask-genesys-auth[{}]'"
_THROTTLE = 'must be "memory://", or the address of a Redis server such as "redis://redis.internal:6379/0"'
_AUTHORITIES = "ssl_ca_certs"
_OPTIONS = (
    f'takes one option, with rediss:// only: "?{_AUTHORITIES}=" with the absolute path (without % and +) of '
    "authorities to trust beside the system's"
)
_DATABASE = re.compile(r"/?|/[0-9]{1,4}", re.ASCII)


def state_url(text: str, base_path: Path) -> str:
    """Return where the state is kept.

    :param base_path: the folder that a relative path is relative to.
    :raises ValidationError: if it is none of the memory, a file of SQLite, PostgreSQL and Redis, or if the package is
        missing that its server needs.
    """
    if text == MEMORY:
        return text
    if text.startswith(("redis://", "rediss://")):
        return _redis(text, _STATE)
    url = _parsed(text)
    if url is not None and url.drivername == "postgresql+psycopg" and url.database:
        if _driver_missing(url):
            raise ValidationError(_INSTALL.format("postgresql"))
        return text
    if url is None or url.drivername not in {"sqlite", "sqlite+pysqlite"} or not _plain_file(url):
        raise ValidationError(_STATE)
    return _absolute(url, base_path)


def throttle_url(text: str) -> str:
    """Return where the throttle counts.

    :raises ValidationError: if it is neither the memory nor a server of Redis.
    """
    if text == MEMORY:
        return text
    if text.startswith(("redis://", "rediss://")):
        return _redis(text, _THROTTLE)
    raise ValidationError(_THROTTLE)


def _redis(text: str, finding: str) -> str:
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named or not _DATABASE.fullmatch(parts.path) or parts.fragment:
        raise ValidationError(finding)
    if parts.query:
        _check_authorities(parts)
    if find_spec("redis") is None:
        raise ValidationError(_INSTALL.format("redis"))
    return text


def _check_authorities(parts: SplitResult) -> None:
    option, _, file = parts.query.partition("=")
    # What others would read as something else is not taken: the file that is looked at is the one that is used.
    if option != _AUTHORITIES or parts.scheme != "rediss" or set(file) & set("&%+") or not Path(file).is_absolute():
        raise ValidationError(_OPTIONS)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError):
        # An error of TLS is one of the first kind, too.
        raise ValidationError(f"{_AUTHORITIES}: must name a readable file of certificates in PEM form") from None


def authorities_of(url: str) -> Path | None:
    """Return the file of authorities that a checked address of Redis names."""
    query = urlsplit(url).query if url.startswith("rediss://") else ""
    return Path(query.removeprefix(f"{_AUTHORITIES}=")) if query else None


def is_sql(url: str) -> bool:
    """Tell whether a checked ``state_url`` is a database that can hold accounts too."""
    return url.startswith(("sqlite", "postgresql"))


def accounts_url(text: str, base_path: Path) -> str:
    """Return where the accounts are kept: any address of SQLAlchemy whose driver is there and not asynchronous.

    :param base_path: the folder that a relative path of SQLite is relative to.
    :raises ValidationError: if it is of any other form.
    """
    url = _parsed(text)
    if url is None:
        raise ValidationError('must be an address of SQLAlchemy such as "sqlite:///accounts.sqlite3"')
    finding = _driver_missing(url)
    if finding:
        raise ValidationError(finding)
    if url.get_backend_name() != "sqlite" or not _plain_file(url):
        return text
    return _absolute(url, base_path)


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _driver_missing(url: URL) -> str:
    try:
        dialect = url.get_dialect()
        if dialect.is_async:
            return "must name a driver that is not asynchronous"
        dialect.import_dbapi()
    except (NoSuchModuleError, AttributeError):
        return "names a database or a driver that SQLAlchemy does not know"
    except ImportError:
        return "names a driver that is not installed"
    return ""


def _plain_file(url: URL) -> bool:
    named = url.database not in {None, "", ":memory:"} and not str(url.database).startswith("file:")
    return named and (url.host, url.username, url.password) == (None, None, None)


def _absolute(url: URL, base_path: Path) -> str:
    absolute = url.set(database=str(base_path / str(url.database)))
    rendered = absolute.render_as_string(hide_password=False)
    if _parsed(rendered) != absolute:
        raise ValidationError("names a path that an address cannot carry (a question mark in it, perhaps)")
    return rendered
