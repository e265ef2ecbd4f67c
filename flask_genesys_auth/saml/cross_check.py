"""A second opinion: python3-saml must accept a response too, and read the same name in it.

It shares libxml2 and libxmlsec with us and nothing else: a mistake in the reading of a message has to be made twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from onelogin.saml2.response import OneLogin_Saml2_Response

from .errors import Fault, SamlError

if TYPE_CHECKING:
    from onelogin.saml2.settings import OneLogin_Saml2_Settings

    from .settings import ServiceProvider
    from .trust import Trust


def agree(service: ServiceProvider, trust: Trust, encoded: str, request_id: str | None, name_id: str) -> None:
    """Ask python3-saml about a response that all checks of ours have accepted.

    :param encoded: base64, as the form carried it.
    :param request_id: of the request that it answers, or ``None``.
    :param name_id: what we have read in it as the value of its NameID, or empty.
    :raises SamlError: unless it accepts the response with one of our decryption keys, and finds the same NameID.
    """
    findings = [_finding(service, referee, encoded, request_id, name_id) for referee in trust.referees]
    if "" not in findings:
        raise SamlError(Fault.CROSS_CHECK, f"python3-saml does not agree: {'; '.join(findings)}")


def _finding(
    service: ServiceProvider, referee: OneLogin_Saml2_Settings, encoded: str, request_id: str | None, name_id: str
) -> str:
    address = urlsplit(service.acs_url)
    request: dict[str, object] = {
        "https": "on" if address.scheme == "https" else "off",
        "http_host": address.netloc,
        "script_name": address.path,
        "get_data": {},
        "post_data": {},
    }
    try:
        message = OneLogin_Saml2_Response(referee, encoded)
        message.is_valid(request, request_id, raise_exceptions=True)
        found = (message.get_nameid() or "").strip()
    except Exception as error:  # whatever a second opinion stumbles over is no agreement
        return f"{type(error).__name__}: {error}"
    return "" if found == name_id else "it reads another NameID"
