"""Mutants of genuine messages, as an attacker with knowledge of XML signatures would make them."""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable

from lxml import etree

from flask_genesys_auth.saml.documents import DS, EXCLUSIVE_C14N, SAML, SAMLP

from .edits import EDITS
from .trees import EVIL

XENC = "http://www.w3.org/2001/04/xmlenc#"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XML = "http://www.w3.org/XML/1998/namespace"
XSLT = "http://www.w3.org/1999/XSL/Transform"

NAMESPACES = (SAML, SAMLP, DS, XENC, "urn:oasis:names:tc:SAML:1.0:assertion", "urn:nobody", "")
NAMES = (
    *("Response", "Assertion", "EncryptedAssertion", "Advice", "Extensions", "Object", "Signature", "SignedInfo"),
    *("Subject", "NameID", "BaseID", "EncryptedID", "SubjectConfirmation", "SubjectConfirmationData", "Conditions"),
    *("Issuer", "Audience", "AudienceRestriction", "AuthnStatement", "AttributeStatement", "Attribute", "Status"),
    *("AttributeValue", "Reference", "Transform", "KeyInfo", "RetrievalMethod", "Manifest", "StatusDetail"),
)
ATTRIBUTES = (
    *("ID", "Id", "id", f"{{{XML}}}id", "URI", "InResponseTo", "Destination", "Recipient", "NotOnOrAfter", "NotBefore"),
    *("Format", "Name", "Version", "Method", "Algorithm", "Value", "SessionIndex", "SPNameQualifier", "PrefixList"),
    *("Type", "IssueInstant", "NameFormat", f"{{{XSI}}}type", f"{{{XSI}}}nil", f"{{{XSI}}}schemaLocation"),
)
VALUES = (
    *("", "#", "_evil", "#_evil", "#xpointer(/)", "#xpointer(id('_evil'))", "file:///etc/passwd", EVIL, "2.0", "1.1"),
    *("https://evil.example/acs", "9999-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "xs:string", "xs samlp #default"),
    *("http://www.w3.org/2000/09/xmldsig#hmac-sha1", "http://www.w3.org/2000/09/xmldsig#rsa-sha1", f"{DS}sha1"),
    *("http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", "http://www.w3.org/2001/04/xmlenc#sha512", f"{DS}base64"),
    *(f"{EXCLUSIVE_C14N}WithComments", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", EXCLUSIVE_C14N),
    *("http://www.w3.org/TR/1999/REC-xslt-19991116", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
    *("urn:oasis:names:tc:SAML:2.0:cm:sender-vouches", "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"),
    *("urn:oasis:names:tc:SAML:2.0:status:Requester", f"{DS}enveloped-signature", "true", "x" * 300),
)

Tree = etree._Element
Change = Callable[["Mutator", Tree], None]


class Mutator:
    """Makes mutants of one genuine message.

    :param seed: the same seed makes the same choices.
    :param genuine: the message.
    :param others: messages to take parts from: of another user, for another request, by another key.
    """

    def __init__(self, seed: str, genuine: bytes, others: tuple[bytes, ...]) -> None:
        self.chance = random.Random(seed)
        self.genuine = genuine
        self._tree = etree.fromstring(genuine)
        self._others = tuple(etree.fromstring(other) for other in others)

    def mutant(self) -> str:
        """Return one, as it is posted."""
        kind = self.chance.random()
        if kind < 0.04:
            return self._broken_base64()
        if kind < 0.16:
            return base64.b64encode(self._edited(self.genuine)).decode()
        tree = copy.deepcopy(self._tree)
        for _ in range(self.chance.choice((1, 1, 1, 2, 2, 3, 4))):
            self.chance.choice(CHANGES)(self, tree)
        text = etree.tostring(tree)
        if kind < 0.2:
            text = self._edited(text)
        return base64.b64encode(text).decode()

    def element(self, tree: Tree, *, root: bool = True) -> Tree:
        """Return any element; those that matter more often."""
        found = list(tree.iter("*"))[0 if root else 1 :]
        if not found:
            return tree
        if self.chance.random() < 0.5:
            names = ("Assertion", "Subject", "NameID", "Signature", "Reference", "SignedInfo", "Conditions", "Issuer")
            wanted = [node for node in found if etree.QName(node).localname in names]
            found = wanted or found
        return self.chance.choice(found)

    def foreign(self, tree: Tree) -> Tree:
        """Return a copy of an element of this message or of another."""
        return copy.deepcopy(self.element(self.chance.choice((tree, *self._others))))

    def place(self, tree: Tree, node: Tree) -> None:
        """Put an element anywhere."""
        where = self.element(tree)
        how = self.chance.randrange(4)
        if how == 0 and where.getparent() is not None:
            where.addprevious(node)
        elif how == 1 and where.getparent() is not None:
            where.addnext(node)
        else:
            where.insert(self.chance.randint(0, len(where)), node)

    def text(self, tree: Tree) -> str:
        """Return a text that stands somewhere, or one that an attacker would like to."""
        if self.chance.random() < 0.5:
            return self.chance.choice(VALUES)
        node = self.element(self.chance.choice((tree, *self._others)))
        return self.chance.choice([node.text or "", *map(str, node.attrib.values())])

    def _edited(self, data: bytes) -> bytes:
        for _ in range(self.chance.choice((1, 1, 2))):
            data = self.chance.choice(EDITS)(self.chance, data)
        return data

    def _broken_base64(self) -> str:
        encoded = base64.b64encode(self.genuine).decode()
        at = self.chance.randrange(len(encoded))
        return self.chance.choice(
            (
                encoded[:at],
                encoded[:at] + self.chance.choice("=\n\r\t -_%é\0 A") + encoded[at:],
                encoded[:at] + self.chance.choice("=\n\r\t -_%é\0 A") + encoded[at + 1 :],
                encoded + encoded,
                "\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76)),
                encoded.rstrip("="),
                encoded + "====",
            )
        )


def move(m: Mutator, tree: Tree) -> None:
    node = m.element(tree, root=False)
    if node is not tree:
        copied = copy.deepcopy(node)
        remove(node)
        m.place(tree, copied)


def duplicate(m: Mutator, tree: Tree) -> None:
    m.place(tree, m.foreign(tree))


def drop(m: Mutator, tree: Tree) -> None:
    node = m.element(tree, root=False)
    if node is not tree:
        remove(node)


def rename(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    name = etree.QName(node)
    if m.chance.random() < 0.5:
        node.tag = etree.QName(m.chance.choice(NAMESPACES) or None, name.localname).text
    else:
        node.tag = etree.QName(name.namespace, m.chance.choice((*NAMES, name.localname.upper()))).text


def replace_text(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    node.text = printable(m.text(tree))


def append_text(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    added = printable(m.chance.choice((" ", "\n", "\t", EVIL, "\u00a0", ".evil.example", "A", "=")))
    if m.chance.random() < 0.5:
        node.text = (node.text or "") + added
    elif node is not tree:
        node.tail = (node.tail or "") + added


def set_attribute(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    known = [str(name) for name in node.attrib]
    name = m.chance.choice([*known, *known, m.chance.choice(ATTRIBUTES)])
    node.set(name, printable(m.text(tree)))


def drop_attribute(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    if len(node.attrib):
        del node.attrib[m.chance.choice(list(node.attrib))]


def same_id(m: Mutator, tree: Tree) -> None:
    ids = [str(value) for node in tree.iter("*") for name, value in node.attrib.items() if str(name) == "ID"]
    if ids:
        m.element(tree).set(m.chance.choice(ATTRIBUTES[:4]), m.chance.choice(ids))


def split_text(m: Mutator, tree: Tree) -> None:
    """Split a text by a comment, an instruction or an element."""
    node = m.element(tree)
    text = node.text or ""
    at = m.chance.randint(0, len(text))
    made = m.chance.choice((etree.Comment("x"), etree.ProcessingInstruction("x", "y"), etree.Element("x")))
    node.text, made.tail = text[:at], text[at:]
    node.insert(0, made)


def comment_beside(m: Mutator, tree: Tree) -> None:
    node = m.element(tree)
    made = m.chance.choice((etree.Comment("x"), etree.ProcessingInstruction("x", "y")))
    if m.chance.random() < 0.5:
        node.addnext(made)
    else:
        node.addprevious(made)


def redeclare(m: Mutator, tree: Tree) -> None:
    """Write an element with other prefixes, its namespaces the same or not."""
    node = m.element(tree, root=False)
    parent = node.getparent()
    if parent is None:
        return
    prefixes = ["saml", "samlp", "ds", "xs", "xsi", "evil", None]
    space = etree.QName(node).namespace if m.chance.random() < 0.7 else m.chance.choice(NAMESPACES[:-1])
    made = etree.Element(node.tag, nsmap={m.chance.choice(prefixes): space or "urn:none"})
    for name, value in node.attrib.items():
        made.set(name, value)
    made.text, made.tail = node.text, node.tail
    made.extend([copy.deepcopy(child) for child in node])
    parent.replace(node, made)


def swap(m: Mutator, tree: Tree) -> None:
    """Put a part of another message in the place of the same part here: signatures, assertions, values."""
    node = m.element(tree, root=False)
    parent = node.getparent()
    source = m.chance.choice((tree, *m._others))
    same = [other for other in source.iter("*") if other.tag == node.tag]
    if parent is not None and same:
        parent.replace(node, copy.deepcopy(m.chance.choice(same)))


def evil_twin(m: Mutator, tree: Tree) -> None:
    """Insert a copy of the assertion or Response for another user anywhere, perhaps around the genuine one."""
    found = [node for node in tree.iter("*") if etree.QName(node).localname in {"Assertion", "Response"}]
    if not found:
        return
    node = m.chance.choice(found)
    twin = copy.deepcopy(node)
    for name in list(twin.iter(f"{{{SAML}}}NameID")):
        name.text = EVIL
    if m.chance.random() < 0.7:
        twin.set("ID", "_evil")
    if m.chance.random() < 0.6:
        for signature in list(twin.iter(f"{{{DS}}}Signature")):
            remove(signature)
    parent = node.getparent()
    how = m.chance.randrange(4)
    if how == 0 and parent is not None:
        genuine = copy.deepcopy(node)
        parent.replace(node, twin)
        m.place(twin, genuine)
    elif how == 1 and parent is not None:
        m.chance.choice((node.addprevious, node.addnext))(twin)
    elif how == 2:
        hide(m, tree, twin)
    else:
        m.place(tree, twin)


def hide_copy(m: Mutator, tree: Tree) -> None:
    hide(m, tree, m.foreign(tree))


def hide(m: Mutator, tree: Tree, node: Tree) -> None:
    """Put an element where a schema lets anything be."""
    box = etree.Element(
        m.chance.choice(
            (f"{{{SAMLP}}}Extensions", f"{{{SAML}}}Advice", f"{{{DS}}}Object", f"{{{SAMLP}}}StatusDetail", "{urn:x}x")
        )
    )
    box.append(node)
    name = etree.QName(box).localname
    owner = {"Extensions": f"{{{SAML}}}Issuer", "Advice": f"{{{SAML}}}Conditions"}.get(name)
    found = list(tree.iter(owner)) if owner else []
    inside = {"Object": f"{{{DS}}}Signature", "StatusDetail": f"{{{SAMLP}}}Status"}.get(name)
    around = list(tree.iter(inside)) if inside else []
    if found:
        found[0].addnext(box)
    elif around:
        m.chance.choice(around).append(box)
    else:
        tree.append(box)


def encrypt_shell(m: Mutator, tree: Tree) -> None:
    """Put the assertion into the shell of an encrypted one, or a shell beside it."""
    found = [node for node in tree.iter("*") if etree.QName(node).localname in {"Assertion", "NameID"}]
    if not found:
        return
    node = m.chance.choice(found)
    shell = etree.Element(f"{{{SAML}}}{m.chance.choice(('EncryptedAssertion', 'EncryptedID'))}")
    etree.SubElement(shell, f"{{{XENC}}}EncryptedData").append(copy.deepcopy(node))
    if m.chance.random() < 0.5 and node.getparent() is not None:
        node.addnext(shell)
    else:
        m.place(tree, shell)


def add_transform(m: Mutator, tree: Tree) -> None:
    found = list(tree.iter(f"{{{DS}}}Transforms"))
    if found:
        made = etree.SubElement(m.chance.choice(found), f"{{{DS}}}Transform", Algorithm=m.chance.choice(VALUES))
        if m.chance.random() < 0.5:
            etree.SubElement(made, m.chance.choice((f"{{{DS}}}XPath", f"{{{XSLT}}}stylesheet"))).text = "not(self::x)"


def add_prefixes(m: Mutator, tree: Tree) -> None:
    found = [*tree.iter(f"{{{DS}}}Transform"), *tree.iter(f"{{{DS}}}CanonicalizationMethod")]
    if found:
        name = f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces"
        prefixes = m.chance.choice(("xs", "saml samlp", "#default", "nobody", "xs " * 40))
        etree.SubElement(m.chance.choice(found), name, PrefixList=prefixes)


def change_key_info(m: Mutator, tree: Tree) -> None:
    """Change KeyInfo, which is ignored."""
    found = list(tree.iter(f"{{{DS}}}Signature"))
    if not found:
        return
    signature = m.chance.choice(found)
    for known in signature.findall(f"{{{DS}}}KeyInfo"):
        remove(known)
    information = etree.SubElement(signature, f"{{{DS}}}KeyInfo")
    name = m.chance.choice(("KeyName", "X509Data", "RetrievalMethod", "KeyValue", "MgmtData"))
    made = etree.SubElement(information, f"{{{DS}}}{name}")
    if name == "RetrievalMethod":
        made.set("URI", m.chance.choice(VALUES))


def second_reference(m: Mutator, tree: Tree) -> None:
    found = list(tree.iter(f"{{{DS}}}Reference", f"{{{DS}}}SignedInfo", f"{{{DS}}}DigestValue"))
    if found:
        node = m.chance.choice(found)
        again = copy.deepcopy(node)
        if node.tag == f"{{{DS}}}Reference":
            again.set("URI", m.chance.choice(VALUES))
        node.addnext(again)


def pretty(m: Mutator, tree: Tree) -> None:
    etree.indent(m.element(tree))


def remove(node: Tree) -> None:
    """Take an element out; the text behind it stays, for it may be signed."""
    parent, before = node.getparent(), node.getprevious()
    if parent is None:
        return
    if before is not None:
        before.tail = (before.tail or "") + (node.tail or "")
    else:
        parent.text = (parent.text or "") + (node.tail or "")
    parent.remove(node)


def printable(text: str) -> str:
    return "".join(character for character in text if character >= " " or character in "\n\t")


CHANGES: tuple[Change, ...] = (
    *(move, duplicate, drop, rename, replace_text, append_text, set_attribute, drop_attribute, same_id, split_text),
    *(comment_beside, redeclare, swap, evil_twin, evil_twin, hide_copy, encrypt_shell, add_transform, add_prefixes),
    *(change_key_info, second_reference, pretty),
)
