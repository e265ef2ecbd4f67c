"""The AuthnRequest of a service provider, as an identity provider reads it."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Request

from ..saml.documents import SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, parse, text_of

_LIMITS = Limits(size=64 * 1024, depth=16, elements=200, attributes=32)


@dataclass(frozen=True, slots=True)
class Asked:
    """An AuthnRequest as it came, and what it asks for.

    :param encoded: empty where nobody has asked: the login begins here.
    """

    encoded: str
    binding: str
    relay_state: str
    request_id: str | None
    issuer: str
    acs_url: str
    force_authn: bool = False
    passive: bool = False


def read_request(request: Request, binding: str) -> Asked:
    """Read an AuthnRequest of either binding (saml-bindings 3.4, 3.5); what is inflated is bounded.

    :param binding: ``redirect`` or ``post``, whatever brings it now.
    :raises BadRequest: if it is none.
    """
    fields = request.args if request.method == "GET" else request.form
    encoded = fields.get("SAMLRequest", "")
    try:
        data = base64.b64decode(encoded.encode("ascii"), validate=True)
        if binding == "redirect":
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _LIMITS.size + 1)
        root = parse(data, _LIMITS)
        issuer = root.find(f"{{{SAML}}}Issuer")
        named = text_of(issuer) if issuer is not None else ""
    except (UnicodeEncodeError, binascii.Error, zlib.error, MalformedXml, ForbiddenXml) as error:
        raise BadRequest("This is no AuthnRequest.") from error
    acs_url = root.get("AssertionConsumerServiceURL", "")
    if root.tag != f"{{{SAMLP}}}AuthnRequest" or not named or urlsplit(acs_url).scheme not in {"http", "https"}:
        raise BadRequest("This is no AuthnRequest that says who asks and where the answer goes.")
    return Asked(
        encoded=encoded,
        binding=binding,
        relay_state=fields.get("RelayState", ""),
        request_id=root.get("ID", ""),
        issuer=named,
        acs_url=acs_url,
        force_authn=root.get("ForceAuthn") in {"true", "1"},
        passive=root.get("IsPassive") in {"true", "1"},
    )
