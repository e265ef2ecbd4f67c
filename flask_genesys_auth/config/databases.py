"""URLs of stores in the configuration: validates them and makes the paths of SQLite files absolute."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from marshmallow import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from .addresses import bracketed

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MEMORY = "memory://"
DEFAULT_STATE = "sqlite:///state.sqlite3"
DEFAULT_ACCOUNTS = "sqlite:///accounts.sqlite3"

_STATE = (
    'must be "memory://", a SQLite URL such as "sqlite:///state.sqlite3", a PostgreSQL URL such as '
    '"postgresql+psycopg://user@db.internal/portal", or a Redis URL such as "redis://redis.internal:6379/0"'
)
_INSTALL = "requires a package that is not installed: run pip install 'flask-genesys-auth[{}]'"
_THROTTLE = 'must be "memory://", or a Redis URL such as "redis://redis.internal:6379/0"'
_SERVER = 'must be of the form "redis://user:password@redis.internal:6379/0"'
_SOCKET = (
    'must be of the form "unix:///run/redis/redis.sock?db=0", or '
    '"unix://user:password@/run/redis/redis.sock?db=0" with a user and a password'
)
_SENTINEL = (
    'must be of the form "redis+sentinel://user:password@sentinel1.internal:26379,sentinel2.internal:26379/SERVICE/0": '
    "SERVICE is the Sentinels' name of the master; user and password are those of the Redis servers, "
    "percent-encoded; IPv6 addresses are in brackets"
)
_REDIS = ("redis://", "rediss://", "redis+sentinel://", "unix://")
_AUTHORITIES = "ssl_ca_certs"
_OPTIONS = (
    f'accepts one option, with rediss:// only: "?{_AUTHORITIES}=/absolute/path", the certificate authorities to trust '
    "in addition to the system's; the path must not contain % or +"
)
_DATABASE = re.compile(r"/?|/[0-9]{1,4}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
"""Host names, and the service names that Sentinel accepts."""
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of a Redis or Valkey server.

    :param url: as configured; redis-py reads ``redis://``, ``rediss://`` and ``unix://`` itself.
    :param shown: without user and password.
    :param hosts: of the server, or of the Sentinels; none for a Unix socket.
    :param secrets: all spellings of the password, which no error may show.
    :param service: the Sentinels' name of the master; empty without Sentinel.
    :param database: with ``user`` and ``password``, of the Redis servers that Sentinel names.
    """

    url: str = field(repr=False)
    shown: str
    hosts: tuple[tuple[str, int], ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    service: str = ""
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def state_url(text: str, base_path: Path) -> str:
    """Return the URL of the state.

    :param base_path: the folder that a relative path starts from.
    :raises ValidationError: if it is not memory, a SQLite file, PostgreSQL or Redis, or if the package is missing.
    """
    if text == MEMORY or is_redis(text):
        return text if text == MEMORY else _redis(text, _STATE)
    url = _parsed(text)
    if url is not None and url.drivername == "postgresql+psycopg" and url.database:
        if _driver_problem(url):
            raise ValidationError(_INSTALL.format("postgresql"))
        return text
    if url is None or url.drivername not in {"sqlite", "sqlite+pysqlite"} or not _is_file(url):
        raise ValidationError(_STATE)
    return _absolute(url, base_path)


def throttle_url(text: str) -> str:
    """Return the URL of the throttle's counters.

    :raises ValidationError: if it is neither memory nor Redis.
    """
    return text if text == MEMORY else _redis(text, _THROTTLE)


def _redis(text: str, finding: str) -> str:
    redis_address(text, finding)
    parts = urlsplit(text)
    if text.startswith(("redis://", "rediss://")) and parts.query:
        _check_authorities(parts)
    if find_spec("redis") is None:
        raise ValidationError(_INSTALL.format("redis"))
    return text


def redis_address(text: str, finding: str = _SERVER) -> RedisAddress:
    """Parse the URL of a Redis or Valkey server.

    :param finding: the error for URLs of neither a Unix socket nor Sentinels.
    :raises ValidationError: if it is not valid; never shows the URL.
    """
    if text.startswith("redis+sentinel://"):
        return _sentinel_address(text)
    if text.startswith("unix://"):
        return _socket_address(text)
    parts, place = _parts(text, 6379)
    valid = text.startswith(("redis://", "rediss://")) and _DATABASE.fullmatch(parts.path) and not parts.fragment
    if place is None or not valid:
        raise ValidationError(finding)
    shown = f"{parts.scheme}://{_host_and_port(*place)}{parts.path}"
    return RedisAddress(text, shown, hosts=(place,), secrets=_spellings(parts.password))


def _socket_address(text: str) -> RedisAddress:
    parts, _ = _parts(text, 0)
    options = parse_qs(parts.query, keep_blank_values=True)
    known = set(options) <= {"db", "username", "password"} and all(len(values) == 1 for values in options.values())
    database = options.get("db", ["0"])[0]
    remote = parts.netloc.rpartition("@")[2] or parts.path in {"", "/"} or parts.fragment
    if remote or not known or not _NUMBER.fullmatch(database):
        raise ValidationError(_SOCKET)
    secrets = _spellings(parts.password, *options.get("password", ()))
    return RedisAddress(text, f"unix://{parts.path}?db={database}", secrets=secrets)


def _sentinel_address(text: str) -> RedisAddress:
    place, _, path = text.removeprefix("redis+sentinel://").partition("/")
    login, at, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    service, _, database = path.partition("/")
    named = _NAME.fullmatch(service) and _NUMBER.fullmatch(database or "0") and not set(text) & set("?#")
    if not named or bool(at) != bool(password):
        raise ValidationError(_SENTINEL)
    found = tuple(_sentinel_place(one) for one in hosts.split(","))
    shown = ",".join(_host_and_port(*one) for one in found)
    return RedisAddress(
        text,
        f"redis+sentinel://{shown}/{service}/{database or 0}",
        hosts=found,
        secrets=_spellings(password),
        service=service,
        database=int(database or 0),
        user=unquote(user) or None,
        password=unquote(password) or None,
    )


def _sentinel_place(text: str) -> tuple[str, int]:
    parts, place = _parts(f"//{text}", SENTINEL_PORT)
    if place is None or parts.netloc != text or not (":" in place[0] or _NAME.fullmatch(place[0])):
        raise ValidationError(_SENTINEL)
    return place


def _parts(text: str, port: int) -> tuple[SplitResult, tuple[str, int] | None]:
    """Split a URL; return its host and port as well, if they are valid.

    :param port: the default.
    """
    try:
        parts = urlsplit(text)
        port = port if parts.port is None else parts.port
    except ValueError:
        # Raising here would chain this error, which shows a part of the URL.
        return SplitResult("", "", "", "", ""), None
    return parts, (parts.hostname, port) if parts.hostname and port else None


def _host_and_port(host: str, port: int) -> str:
    return f"{bracketed(host)}:{port}"


def _spellings(*secrets: str | None) -> tuple[str, ...]:
    """Return each secret as it is in the URL and as it is sent, the longest first."""
    found = {spelling for secret in secrets if secret for spelling in (secret, unquote(secret))}
    return tuple(sorted(found, key=len, reverse=True))


def _check_authorities(parts: SplitResult) -> None:
    option, _, file = parts.query.partition("=")
    # Other libraries could decode % and + differently: the file that is checked here must be the one that is used.
    if option != _AUTHORITIES or parts.scheme != "rediss" or set(file) & set("&%+") or not Path(file).is_absolute():
        raise ValidationError(_OPTIONS)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise ValidationError(f"{_AUTHORITIES} must name a readable file of certificates in PEM") from None


def authorities_of(url: str) -> Path | None:
    """Return the file of authorities that a validated Redis URL names."""
    query = urlsplit(url).query if url.startswith("rediss://") else ""
    return Path(query.removeprefix(f"{_AUTHORITIES}=")) if query else None


def is_redis(url: str) -> bool:
    """Return whether a ``state_url`` or ``throttle.storage_url`` is a Redis or Valkey server."""
    return url.startswith(_REDIS)


def accounts_url(text: str, base_path: Path) -> str:
    """Return the URL of the accounts: any SQLAlchemy URL whose driver is installed and synchronous.

    :param base_path: the folder that the relative path of a SQLite file starts from.
    :raises ValidationError: if it has any other form.
    """
    url = _parsed(text)
    if url is None:
        raise ValidationError('must be a SQLAlchemy URL such as "sqlite:///accounts.sqlite3"')
    problem = _driver_problem(url)
    if problem:
        raise ValidationError(problem)
    return _absolute(url, base_path) if url.get_backend_name() == "sqlite" and _is_file(url) else text


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _driver_problem(url: URL) -> str:
    try:
        dialect = url.get_dialect()
        if dialect.is_async:
            return f"must name a synchronous driver, not {url.drivername}"
        dialect.import_dbapi()
    except (NoSuchModuleError, AttributeError):
        return "names a database or a driver that SQLAlchemy does not know: correct the part before ://"
    except ImportError:
        return f"names a driver that is not installed: install the package of {url.drivername}"
    return ""


def _is_file(url: URL) -> bool:
    named = url.database not in {None, "", ":memory:"} and not str(url.database).startswith("file:")
    return named and (url.host, url.username, url.password) == (None, None, None)


def _absolute(url: URL, base_path: Path) -> str:
    absolute = url.set(database=str(base_path / str(url.database)))
    rendered = absolute.render_as_string(hide_password=False)
    if _parsed(rendered) != absolute:
        raise ValidationError("names a path that a URL cannot contain: remove the question marks")
    return rendered
