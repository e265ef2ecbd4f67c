"""Find and copy parts of message trees, as attackers do."""

from __future__ import annotations

import copy

from lxml import etree

from flask_genesys_auth.saml.documents import DS, SAML, SAMLP

EVIL = "mallory@acme.example"


def find(root: etree._Element, path: str) -> etree._Element:
    found = root.find(path, {"saml": SAML, "samlp": SAMLP, "ds": DS})
    assert found is not None, path
    return found


def impersonate(assertion: etree._Element) -> None:
    """Put another name into an assertion, also where the provider has encrypted it."""
    subject = find(assertion, "saml:Subject")
    for holder in subject.findall(f"{{{SAML}}}EncryptedID"):
        subject.replace(holder, etree.Element(f"{{{SAML}}}NameID"))
    find(subject, "saml:NameID").text = EVIL


def evil_twin(assertion: etree._Element) -> etree._Element:
    """Return a copy of the assertion for another user, with another ID and without a signature."""
    twin = copy.deepcopy(assertion)
    twin.set("ID", "_evil")
    impersonate(twin)
    for signature in twin.findall(f"{{{DS}}}Signature"):
        twin.remove(signature)
    return twin


REFERENCE = "ds:SignedInfo/ds:Reference"
