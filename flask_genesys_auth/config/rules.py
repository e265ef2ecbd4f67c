"""Validates single texts of the configuration: each rule returns the normalised text or raises ``ValidationError``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from marshmallow import ValidationError
from werkzeug.utils import import_string

from ..errors import ConfigurationError
from . import addresses
from .names import fold, lower_ascii, parse_dn, short_id

USER = "{user}"
DN = "{dn}"

STEP_NAMES = frozenset({"salesforce", "configuration_server", "web_services", "login_session", "saml"})
"""The names of the steps. No identity provider may have one, because both are keys of an account's identities."""

_DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
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
_RESERVED_HEADERS = frozenset({"authorization", "cookie", "contactcenterid", "host", "origin"})


def _matching(pattern: str | re.Pattern[str], form: str) -> Callable[[str], str]:
    """Return a rule that accepts text that matches a pattern as a whole.

    :param form: ends the sentence "must be ...".
    """
    expression = re.compile(pattern, re.ASCII) if isinstance(pattern, str) else pattern

    def rule(text: str) -> str:
        if not expression.fullmatch(text):
            raise ValidationError(f"must be {form}")
        return text

    return rule


table_name = _matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "at most 64 letters, digits, hyphens, underscores and dots, and begin with a letter or digit",
)
ldap_attribute = _matching(
    r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", "the name of an LDAP attribute without options, such as uid (RFC 4512 2.5)"
)
dotted_name = _matching(_DOTTED_NAME, 'of the form "package.module:Class"')
_token = _matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "the name of a header, such as X-Session (RFC 9110 5.1)")
header_value = _matching(r"[ -~]*", "ASCII, because a header carries it")
_prefix = _matching(
    r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+",
    'a path such as "/saml", of letters, digits, hyphens, underscores, tildes and dots',
)


def provider_name(text: str) -> str:
    """Return the name of an identity provider."""
    if text.lower() in STEP_NAMES:
        raise ValidationError("is the name of a step: choose another name")
    return table_name(text)


def header_name(text: str) -> str:
    """Return the name of a request header."""
    if text.lower() in _RESERVED_HEADERS:
        raise ValidationError("is a header with another purpose: choose another header")
    return _token(text)


def parse_limit(text: str) -> tuple[int, int]:
    """Return the number and the seconds of a limit in the notation of the library ``limits``.

    That library is not imported, because it imports asyncio and the clients of every store that it supports.

    :raises ValueError: if it is not one limit in that notation.
    """
    found = _LIMIT.fullmatch(text)
    unit = found[3].lower().removesuffix("s") if found else ""
    if found is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} is not a limit such as '10 per 5 minutes'")
    return int(found[1]), _SECONDS[unit] * (int(found[2] or 1) or 1)


def limit(text: str) -> str:
    """Return a single limit in the notation of ``limits``."""
    try:
        amount, span = parse_limit(text)
    except ValueError:
        amount = span = 0
    if not 1 <= amount <= _MOST or not 1 <= span <= _LONGEST:
        raise ValidationError('must be one limit such as "10 per 5 minutes" (at most 1,000,000 in 366 days)')
    return text


def organization(text: str) -> str:
    """Return a Salesforce organization id in its 15 characters."""
    short = short_id(text)
    if short is None:
        raise ValidationError("must be a Salesforce organization id of 15 characters, or of 18 with the right checksum")
    if not short.startswith("00D"):
        raise ValidationError("must begin with 00D, like every organization id")
    return short


def directory(text: str) -> str:
    """Return ``genesys``, ``ldap`` or the dotted name of a directory's class."""
    if text not in {"genesys", "ldap"} and not _DOTTED_NAME.fullmatch(text):
        raise ValidationError('must be "genesys", "ldap" or "package.module:Class"')
    return text


def imported(name: str, path: str) -> Callable[..., object]:
    """Import ``package.module:Class``.

    :param path: the dotted path of the key.
    :raises ConfigurationError: if it cannot be imported.
    """
    try:
        return cast("Callable[..., object]", import_string(name))
    except ImportError as error:
        # Werkzeug's own error is a report of many lines; the first line of its cause says what happened.
        cause = str(getattr(error, "exception", error)).partition("\n")[0]
        raise ConfigurationError(f"{path}: {name!r} cannot be imported: {cause}") from error


def tenant(text: str) -> str:
    """Return a tenant's name, which a backslash separates from the user's."""
    if "\\" in text:
        raise ValidationError("must not contain a backslash")
    return text


def metadata(text: str) -> str:
    """Return the path of a metadata file, or a normalised URL."""
    return addresses.document(text) if addresses.is_address(text) else text


def role(text: str) -> str:
    """Return the name of a role, as accounts store it."""
    if len(text) > _LONGEST_ROLE or "," in text or " " in text or not text.isprintable():
        raise ValidationError(f"must be a role of at most {_LONGEST_ROLE} visible characters without comma or space")
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
        raise ValidationError("must be the part after the @, such as acme.example")
    return fold(text)


def email_domain(text: str) -> str:
    """Return an e-mail domain in lower case. It is not folded: folding makes different domains equal."""
    domain(text)
    return lower_ascii(text)


def realm(text: str) -> str:
    r"""Return the part of a user name before the ``\``, folded."""
    if "\\" in text:
        raise ValidationError("must be the part before the backslash, such as ACME")
    return fold(text)


def namespace(text: str) -> str:
    """Return the prefix of every state key; a colon ends it there."""
    if ":" in text or len(text) > 100:
        raise ValidationError("must be at most 100 characters without a colon")
    return text


def url_prefix(text: str) -> str:
    """Return a path with a leading slash and without a trailing one."""
    return _prefix("/" + text.strip("/"))


def distinguished_name(text: str) -> str:
    """Return a distinguished name."""
    if parse_dn(text) is None:
        raise ValidationError("must be a distinguished name such as ou=people,dc=acme,dc=example (RFC 4514)")
    return text


def user_dn_template(text: str) -> str:
    """Return a distinguished name in which ``{user}`` is the whole of one value."""
    values = [value for level in parse_dn(text) or () for _, value in level]
    if text.count(USER) != 1 or USER not in values:
        raise ValidationError(
            "must be a distinguished name with {user} as one whole value, such as uid={user},ou=people,dc=acme"
        )
    return text


def user_filter(text: str) -> str:
    """Return a filter (RFC 4515) with the user's name."""
    return _filter(text, USER)


def group_filter(text: str) -> str:
    """Return a filter (RFC 4515) with the user's distinguished name or name."""
    return _filter(text, DN if DN in text else USER)


def _filter(text: str, placeholder: str) -> str:
    if not text.startswith("(") or not text.endswith(")"):
        raise ValidationError("must be a filter in parentheses, such as (uid={user}) (RFC 4515)")
    if placeholder not in text:
        raise ValidationError("must contain {user}, as in (uid={user}); a group_filter may contain {dn} instead")
    return text
