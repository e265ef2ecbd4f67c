"""Attacks on the tree of a genuine message: signature wrapping (XSW 1 to 8), other forms of signatures."""

from __future__ import annotations

import copy
from collections.abc import Callable

from lxml import etree

from flask_genesys_auth.saml.documents import DS, SAML, SAMLP
from flask_genesys_auth.testing.saml_messages import Hook

from .trees import evil_twin, find, impersonate


def wrap_response_in_signature(response: etree._Element) -> None:
    """XSW 1: the genuine Response inside the signature of a forged one (there, KeyInfo or Object)."""
    original = copy.deepcopy(response)
    original.remove(find(original, "ds:Signature"))
    impersonate(find(response, "saml:Assertion"))
    response.set("ID", "_evil")
    find(response, "saml:Assertion").set("ID", "_evil-assertion")
    find(response, "ds:Signature").append(original)


def wrap_response_beside_signature(response: etree._Element) -> None:
    """XSW 2: the genuine Response beside its signature, in a forged one."""
    original = copy.deepcopy(response)
    original.remove(find(original, "ds:Signature"))
    impersonate(find(response, "saml:Assertion"))
    response.set("ID", "_evil")
    find(response, "saml:Assertion").set("ID", "_evil-assertion")
    find(response, "ds:Signature").addprevious(original)


def evil_assertion_first(response: etree._Element) -> None:
    """XSW 3: a forged assertion before the genuine one."""
    assertion = find(response, "saml:Assertion")
    assertion.addprevious(evil_twin(assertion))


def evil_assertion_around(response: etree._Element) -> None:
    """XSW 4: the genuine assertion inside the forged one."""
    assertion = find(response, "saml:Assertion")
    evil = evil_twin(assertion)
    response.replace(assertion, evil)
    evil.append(assertion)


def evil_assertion_with_signature(response: etree._Element) -> None:
    """XSW 5: the signature stays in the changed assertion, the genuine one stands behind it without."""
    assertion = find(response, "saml:Assertion")
    original = copy.deepcopy(assertion)
    original.remove(find(original, "ds:Signature"))
    impersonate(assertion)
    assertion.set("ID", "_evil")
    response.append(original)


def genuine_assertion_in_signature(response: etree._Element) -> None:
    """XSW 6: as 5, with the genuine assertion inside the signature."""
    evil_assertion_with_signature(response)
    assertions = response.findall(f"{{{SAML}}}Assertion")
    find(assertions[0], "ds:Signature").append(assertions[1])


def evil_assertion_in_extensions(response: etree._Element) -> None:
    """XSW 7: the forged assertion in Extensions, where the schema lets anything be."""
    assertion = find(response, "saml:Assertion")
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    extensions.append(evil_twin(assertion))
    find(response, "saml:Issuer").addnext(extensions)


def genuine_assertion_in_object(response: etree._Element) -> None:
    """XSW 8: as 5, with the genuine assertion in an Object of the signature."""
    evil_assertion_with_signature(response)
    assertions = response.findall(f"{{{SAML}}}Assertion")
    etree.SubElement(find(assertions[0], "ds:Signature"), f"{{{DS}}}Object").append(assertions[1])


def evil_assertion_in_advice(response: etree._Element) -> None:
    """A forged assertion in the Advice of the genuine one."""
    assertion = find(response, "saml:Assertion")
    advice = etree.Element(f"{{{SAML}}}Advice")
    advice.append(evil_twin(assertion))
    find(assertion, "saml:Conditions").addnext(advice)


def evil_assertion_of_another_namespace(response: etree._Element) -> None:
    twin = evil_twin(find(response, "saml:Assertion"))
    twin.tag = "{urn:oasis:names:tc:SAML:1.0:assertion}Assertion"
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    extensions.append(twin)
    find(response, "saml:Issuer").addnext(extensions)


def set_algorithm(path: str, algorithm: str) -> Hook:
    def change(response: etree._Element) -> None:
        find(response, f"saml:Assertion/ds:Signature/ds:SignedInfo/{path}").set("Algorithm", algorithm)

    return change


def in_signature(change: Callable[[etree._Element], None]) -> Hook:
    def hook(response: etree._Element) -> None:
        change(find(response, "saml:Assertion/ds:Signature"))

    return hook


def add(path: str, xml: str) -> Callable[[etree._Element], None]:
    def change(signature: etree._Element) -> None:
        place = signature if path == "." else find(signature, path)
        place.append(etree.fromstring(xml))

    return change


def double(path: str) -> Callable[[etree._Element], None]:
    def change(signature: etree._Element) -> None:
        element = find(signature, path)
        element.addnext(copy.deepcopy(element))

    return change


def set_value(path: str, name: str, value: str) -> Callable[[etree._Element], None]:
    def change(signature: etree._Element) -> None:
        find(signature, path).set(name, value)

    return change


def set_text(path: str, text: str) -> Callable[[etree._Element], None]:
    def change(signature: etree._Element) -> None:
        find(signature, path).text = text

    return change


def drop(path: str) -> Callable[[etree._Element], None]:
    def change(signature: etree._Element) -> None:
        element = find(signature, path)
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return change
