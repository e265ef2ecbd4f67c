"""Signs any logout message, genuine or wrong, for either binding: what a provider would send, and an attacker."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote

import xmlsec
from lxml import etree
from xmlsec import constants

from ..saml.documents import SAML, SAMLP, as_instant
from .saml_messages import EMAIL, SUCCESS, encode, new_id, sign
from .signing_keys import SigningKey

Hook = Callable[[etree._Element], None]

_PREFIXES = {"saml": SAML, "samlp": SAMLP}


def _nothing(_: etree._Element) -> None:
    return


def _quote(value: str) -> str:
    return quote(value, safe="")


@dataclass(frozen=True, slots=True)
class LogoutMessage:
    """A LogoutRequest or a LogoutResponse (saml-core 3.7); every default is what a genuine one has.

    A field that is ``None`` is left out.

    :param kind: ``LogoutRequest`` or ``LogoutResponse``.
    :param parameter: the form's field or query's parameter; default: the one that the kind belongs in.
    :param now: unix time that the relative times count from, in seconds.
    :param in_response_to: of a response.
    :param statuses: of a response, the outer one first.
    :param before_signing: is given the message; ``after_signing`` when it is signed (POST only).
    """

    issuer: str
    destination: str | None
    kind: Literal["LogoutRequest", "LogoutResponse"] = "LogoutRequest"
    name_id: str | None = "ann@acme.example"
    name_id_format: str | None = EMAIL
    name_qualifier: str | None = None
    sp_name_qualifier: str | None = None
    session_indexes: tuple[str, ...] = ("session-1",)
    in_response_to: str | None = None
    statuses: tuple[str, ...] = (SUCCESS,)
    now: float = field(default_factory=time.time)
    issued: float = 0
    not_on_or_after: float | None = 300
    version: str = "2.0"
    message_id: str = field(default_factory=new_id)
    relay_state: str | None = None
    parameter: str = ""
    signed: bool = True
    signature_algorithm: str = "RsaSha256"
    before_signing: Hook = _nothing
    after_signing: Hook = _nothing

    def but(self, **changes: object) -> LogoutMessage:
        """Return this message with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the dataclass itself refuses unknown names

    def tree(self) -> etree._Element:
        """Return the message, not signed."""
        root = etree.Element(f"{{{SAMLP}}}{self.kind}", nsmap=_PREFIXES)
        optional = {"Destination": self.destination, "InResponseTo": self.in_response_to}
        if self.kind == "LogoutRequest" and self.not_on_or_after is not None:
            optional["NotOnOrAfter"] = as_instant(self.now + self.not_on_or_after)
        root.set("ID", self.message_id)
        root.set("Version", self.version)
        root.set("IssueInstant", as_instant(self.now + self.issued))
        for name, value in optional.items():
            if value is not None:
                root.set(name, value)
        etree.SubElement(root, f"{{{SAML}}}Issuer").text = self.issuer
        if self.kind == "LogoutRequest":
            self._add_subject(root)
        else:
            inside = etree.SubElement(root, f"{{{SAMLP}}}Status")
            for status in self.statuses:
                inside = etree.SubElement(inside, f"{{{SAMLP}}}StatusCode", Value=status)
        self.before_signing(root)
        return root

    def form(self, key: SigningKey) -> dict[str, str]:
        """Return the fields of the POST binding (saml-bindings 3.5), the message signed by an enveloped signature."""
        root = self.tree()
        if self.signed:
            sign(root, key, self.signature_algorithm)
        self.after_signing(root)
        fields = {self._parameter: encode(root)}
        if self.relay_state is not None:
            fields["RelayState"] = self.relay_state
        return fields

    def query(self, key: SigningKey, *, escaped: Callable[[str], str] = _quote, algorithm: str = "") -> str:
        """Return the query of the Redirect binding (saml-bindings 3.4), signed over its octets.

        :param escaped: percent-encodes a value; ADFS writes its escapes in lower case.
        :param algorithm: what SigAlg says, where that is not the algorithm that is used.
        """
        compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = compressor.compress(etree.tostring(self.tree())) + compressor.flush()
        transform = getattr(constants, f"Transform{self.signature_algorithm}")
        parameters = {self._parameter: base64.b64encode(deflated).decode()}
        if self.relay_state is not None:
            parameters["RelayState"] = self.relay_state
        if self.signed:
            parameters["SigAlg"] = algorithm or transform.href
        query = "&".join(f"{name}={escaped(value)}" for name, value in parameters.items())
        if not self.signed:
            return query
        context = xmlsec.SignatureContext()
        context.key = key.load()
        signature = base64.b64encode(context.sign_binary(query.encode(), transform)).decode()
        return f"{query}&Signature={escaped(signature)}"

    @property
    def _parameter(self) -> str:
        return self.parameter or ("SAMLRequest" if self.kind == "LogoutRequest" else "SAMLResponse")

    def _add_subject(self, root: etree._Element) -> None:
        if self.name_id is not None:
            name_id = etree.SubElement(root, f"{{{SAML}}}NameID")
            name_id.text = self.name_id
            qualifiers = {"NameQualifier": self.name_qualifier, "SPNameQualifier": self.sp_name_qualifier}
            for name, value in {**qualifiers, "Format": self.name_id_format}.items():
                if value is not None:
                    name_id.set(name, value)
        for index in self.session_indexes:
            etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = index
