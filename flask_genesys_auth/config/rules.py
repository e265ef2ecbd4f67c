"""What one text of the configuration may say: each rule returns its one form or raises ``ValidationError``."""

from __future__ import annotations

import re

from marshmallow import ValidationError

from . import addresses
from .limits import parse_limit
from .names import fold, lower_ascii
from .salesforce_ids import short_id

STEP_NAMES = frozenset({"salesforce", "configuration_server", "web_services", "login_session", "saml"})
"""The flow's own steps; no identity provider may be called so, for an account's identities are kept by provider."""

_TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)
_LDAP_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", re.ASCII)
_MOST = 1_000_000
_LONGEST = 366 * 24 * 3600
_LONGEST_ROLE = 100
_TAKEN_HEADERS = frozenset({"authorization", "cookie", "contactcenterid", "host", "origin"})


def table_name(text: str) -> str:
    """Return the name of a contact center, which stands in addresses."""
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


def tenant(text: str) -> str:
    """Return a tenant's name, which a backslash parts from the user's."""
    if "\\" in text:
        raise ValidationError("must not contain a backslash")
    return text


def metadata(text: str) -> str:
    """Return the path of a metadata file, or an address in its one form."""
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
    """Return what stands after the ``@`` of a name, folded as names are."""
    if any(character in "@\\" or character.isspace() for character in text):
        raise ValidationError("must be what stands after the @, such as acme.example")
    return fold(text)


def email_domain(text: str) -> str:
    """Return the domain of e-mail addresses that a provider may speak for: no other one is the same to it."""
    domain(text)
    return lower_ascii(text)


def realm(text: str) -> str:
    r"""Return what stands before the ``\`` of a name, folded as names are."""
    if "\\" in text:
        raise ValidationError("must be what stands before the backslash, such as ACME")
    return fold(text)


def namespace(text: str) -> str:
    """Return the text that every key of the state carries; a colon ends it there."""
    if ":" in text or len(text) > 100:
        raise ValidationError("must be at most 100 characters without a colon")
    return text


def url_prefix(text: str) -> str:
    """Return a path with a slash before and none behind."""
    prefix = "/" + text.strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ValidationError('must be a path such as "/saml", of letters, digits, hyphens, underscores and dots')
    return prefix
