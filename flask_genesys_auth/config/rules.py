"""Validates single texts of the configuration: each rule returns the normalised text or raises ``ValidationError``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from marshmallow import ValidationError
from werkzeug.utils import import_string

from ..errors import ConfigurationError
from . import addresses, distinguished_names
from .names import fold, lower_ascii, short_id

USER = "{user}"
DN = "{dn}"

STEP_NAMES = frozenset({"salesforce", "configuration_server", "web_services", "login_session", "saml"})
"""The names of our steps, which an identity provider cannot have: an account's identities are kept by provider."""

_TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)
_LDAP_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", re.ASCII)
_LIMIT = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]*)\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 60 * 60,
    "day": 24 * 60 * 60,
    "month": 30 * 24 * 60 * 60,
    "year": 360 * 24 * 60 * 60,
}
_MOST = 1_000_000
_LONGEST = 366 * 24 * 3600
_LONGEST_ROLE = 100
_TAKEN_HEADERS = frozenset({"authorization", "cookie", "contactcenterid", "host", "origin"})


def table_name(text: str) -> str:
    """Return the name of a contact center, which URLs contain."""
    if not _TABLE_NAME.fullmatch(text):
        raise ValidationError(
            "must be at most 64 letters, digits, hyphens, underscores and dots, and begin with a letter or digit"
        )
    return text


def provider_name(text: str) -> str:
    """Return the name of an identity provider."""
    if text.lower() in STEP_NAMES:
        raise ValidationError("is the name of a step: choose another")
    return table_name(text)


def header_name(text: str) -> str:
    """Return the name of a request header (RFC 9110 5.1)."""
    if not _TOKEN.fullmatch(text):
        raise ValidationError("must be the name of a header")
    if text.lower() in _TAKEN_HEADERS:
        raise ValidationError("is a header with a meaning of its own: choose another")
    return text


def header_value(text: str) -> str:
    """Return what a request header can carry: visible ASCII and blanks."""
    if not all(" " <= character <= "~" for character in text):
        raise ValidationError("must be ASCII, for a header carries it")
    return text


def parse_limit(text: str) -> tuple[int, int]:
    """Return the number and the seconds of a limit in the notation of the library ``limits``.

    Importing that library would import asyncio and the clients of every store that it supports.

    :raises ValueError: if it is not one limit in that notation.
    """
    found = _LIMIT.fullmatch(text)
    unit = found[3].lower().removesuffix("s") if found else ""
    if found is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} is no limit such as '10 per 5 minutes'")
    return int(found[1]), _SECONDS[unit] * (int(found[2] or 1) or 1)


def limit(text: str) -> str:
    """Return a single limit in the notation of ``limits``."""
    try:
        amount, span = parse_limit(text)
    except ValueError:
        amount = span = 0
    if not 1 <= amount <= _MOST or not 1 <= span <= _LONGEST:
        raise ValidationError('must be one limit such as "10 per 5 minutes"')
    return text


def organization(text: str) -> str:
    """Return a Salesforce organization id in its 15 characters."""
    short = short_id(text)
    if short is None:
        raise ValidationError("must be an id of 15 characters, or of 18 with the right checksum")
    if not short.startswith("00D"):
        raise ValidationError("must begin with 00D, as ids of organizations do")
    return short


def directory(text: str) -> str:
    """Return ``genesys``, ``ldap`` or the dotted name of a directory's class."""
    if text not in {"genesys", "ldap"} and not _DOTTED_NAME.fullmatch(text):
        raise ValidationError('must be "genesys", "ldap" or "package.module:Class"')
    return text


def ldap_attribute(text: str) -> str:
    """Return the name of an LDAP attribute (RFC 4512 2.5), without options."""
    if not _LDAP_ATTRIBUTE.fullmatch(text):
        raise ValidationError("must be the name of an LDAP attribute")
    return text


def dotted_name(text: str) -> str:
    """Return ``package.module:Class``."""
    if not _DOTTED_NAME.fullmatch(text):
        raise ValidationError('must be of the form "package.module:Class"')
    return text


def imported(name: str, path: str) -> Callable[..., object]:
    """Import what ``package.module:Class`` names.

    :param path: the dotted path of the key.
    :raises ConfigurationError: if it cannot be imported.
    """
    try:
        return cast("Callable[..., object]", import_string(name))
    except ImportError as error:
        # Werkzeug's own error is a report of many lines; only the first line of its cause says what happened.
        said = str(getattr(error, "exception", error)).partition("\n")[0]
        raise ConfigurationError(f"{path}: {name!r} cannot be imported: {said}") from error


def tenant(text: str) -> str:
    """Return a tenant's name, which a backslash separates from the user's."""
    if "\\" in text:
        raise ValidationError("must not contain a backslash")
    return text


def metadata(text: str) -> str:
    """Return the path of a metadata file, or a normalised URL."""
    return addresses.document(text) if addresses.is_address(text) else text


def role(text: str) -> str:
    """Return the name of a role, as accounts keep it."""
    if len(text) > _LONGEST_ROLE or "," in text or " " in text or not text.isprintable():
        raise ValidationError(f"must be at most {_LONGEST_ROLE} visible characters without a comma or a blank")
    return text


def uri(text: str) -> str:
    """Return an identifier of at most 1024 characters without white space (saml-core 8.3.6)."""
    if any(character.isspace() for character in text):
        raise ValidationError("must not contain white space")
    return text


def saml_match(text: str) -> str:
    """Return ``name_id`` or ``attribute:NAME``."""
    kind, colon, name = text.partition(":")
    if text != "name_id" and not (kind == "attribute" and colon and name.strip() == name != ""):
        raise ValidationError('must be "name_id" or "attribute:NAME"')
    return text


def domain(text: str) -> str:
    """Return the part of a user name after the ``@``, folded."""
    if any(character in "@\\" or character.isspace() for character in text):
        raise ValidationError("must be what stands after the @, such as acme.example")
    return fold(text)


def email_domain(text: str) -> str:
    """Return a domain of e-mail addresses in lower case, not folded: folding makes two domains equal that are not."""
    domain(text)
    return lower_ascii(text)


def realm(text: str) -> str:
    r"""Return the part of a user name before the ``\``, folded."""
    if "\\" in text:
        raise ValidationError("must be what stands before the backslash, such as ACME")
    return fold(text)


def namespace(text: str) -> str:
    """Return the prefix of every key of the state; a colon ends it there."""
    if ":" in text or len(text) > 100:
        raise ValidationError("must be at most 100 characters without a colon")
    return text


def url_prefix(text: str) -> str:
    """Return a path with a leading slash and without a trailing one."""
    prefix = "/" + text.strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ValidationError('must be a path such as "/saml", of letters, digits, hyphens, underscores and dots')
    return prefix


def distinguished_name(text: str) -> str:
    """Return a distinguished name."""
    if distinguished_names.parse(text) is None:
        raise ValidationError("must be a distinguished name such as ou=people,dc=acme,dc=example (RFC 4514)")
    return text


def user_dn_template(text: str) -> str:
    """Return a distinguished name in which ``{user}`` is the whole of one value."""
    steps = distinguished_names.parse(text) or ()
    values = [value for step in steps for _, value in step]
    if text.count(USER) != 1 or USER not in values:
        raise ValidationError(
            "must be a distinguished name with {user} for a whole value, such as uid={user},ou=people,dc=acme"
        )
    return text


def user_filter(text: str) -> str:
    """Return a filter (RFC 4515) that names the user."""
    return _filter(text, USER)


def group_filter(text: str) -> str:
    """Return a filter (RFC 4515) that names the user, by distinguished name or by name."""
    return _filter(text, DN if DN in text else USER)


def _filter(text: str, needed: str) -> str:
    if not text.startswith("(") or not text.endswith(")"):
        raise ValidationError("must be a filter in parentheses, such as (uid={user}) (RFC 4515)")
    if needed not in text:
        raise ValidationError("must say where the name stands, as {user} does in (uid={user})")
    return text
