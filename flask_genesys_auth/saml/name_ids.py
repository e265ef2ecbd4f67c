"""The NameID: by what a provider knows somebody, and what a logout must match exactly (saml-core 3.7.3.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .documents import text_of

if TYPE_CHECKING:
    from lxml import etree

UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


@dataclass(frozen=True, slots=True)
class NameId:
    """A NameID in its one form: what goes without saying is empty, so that equal ones are equal (saml-core 2.2.2).

    :param format: empty where it is unspecified.
    :param qualifier: the provider's name space; empty where it is the provider itself (saml-core 8.3.7).
    :param sp_qualifier: ours; empty where it is us.
    """

    value: str
    format: str = ""
    qualifier: str = ""
    sp_qualifier: str = ""

    @classmethod
    def read(cls, element: etree._Element, *, provider: str, ours: str) -> NameId:
        """Return the NameID that an element is.

        :param provider: the provider's entity id, and ``ours`` our own.
        :raises ForbiddenXml: if it holds more than text.
        """
        format_ = element.get("Format", "")
        qualifier, sp_qualifier = element.get("NameQualifier", ""), element.get("SPNameQualifier", "")
        return cls(
            text_of(element),
            "" if format_ == UNSPECIFIED else format_,
            "" if qualifier == provider else qualifier,
            "" if sp_qualifier == ours else sp_qualifier,
        )

    @classmethod
    def of_text(cls, text: str) -> NameId:
        """Return the NameID that :attr:`text` was made of.

        :raises ValueError: if it is none.
        """
        parts = json.loads(text)
        if not isinstance(parts, list) or len(parts) != 4 or not all(isinstance(part, str) for part in parts):
            raise ValueError("no NameID")
        return cls(*parts)

    @property
    def text(self) -> str:
        """All of it in one text, by which login sessions are kept and found."""
        parts = (self.value, self.format, self.qualifier, self.sp_qualifier)
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
