"""Mutants of logout messages end only the named sessions."""

from __future__ import annotations

import base64
import dataclasses
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest
import xmlsec
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.saml.documents import SAML, SAMLP
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.logout import LogoutRequest, receive
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import EMAIL, LogoutMessage, SigningKey, sign

from ..addresses import IDP
from ..application import ANN
from ..conftest import NOW
from ..edits import EDITS
from ..mutation import Mutator
from ..trees import EVIL

MUTANTS = 800
OFTEN = {Fault.MALFORMED, Fault.STRUCTURE, Fault.SCHEMA}
SPACE = " \t\r\n"
"""What XML calls white space."""

SHA256 = constants.TransformRsaSha256


@dataclasses.dataclass(frozen=True)
class LogoutService:
    """The single logout service, and what a provider really sends to it."""

    service: ServiceProvider
    key: SigningKey
    stranger: SigningKey
    loaded: xmlsec.Key

    @property
    def genuine(self) -> LogoutMessage:
        return LogoutMessage(IDP, self.service.slo_url, now=NOW, message_id="_genuine", session_indexes=("session-1",))

    def mutants(self, seed: str, *, signed: bool) -> Iterator[bytes]:
        """Mutants, with parts of the same request for mallory by the provider's key, and by another."""
        others = (self.genuine.but(name_id=EVIL, message_id="_other"), self.genuine.but(name_id=EVIL))
        if not signed:
            mutator = Mutator(seed, etree.tostring(self.genuine.tree()), tuple(map(tree_of, others)))
        else:
            parts = (of_form(others[0], self.key), of_form(others[1], self.stranger))
            mutator = Mutator(seed, of_form(self.genuine, self.key), parts)
        for _ in range(MUTANTS):
            with suppress(ValueError):  # some are no base64; that is no matter here
                yield base64.b64decode(mutator.mutant())

    def query(self, xml: bytes, signature: str = "") -> str:
        """The query of a message, signed by the provider unless a signature is given."""
        compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = base64.b64encode(compressor.compress(xml) + compressor.flush()).decode()
        query = f"SAMLRequest={quote(deflated, safe='')}&SigAlg={quote(SHA256.href, safe='')}"
        if not signature:
            context = xmlsec.SignatureContext()
            context.key = self.loaded
            signature = base64.b64encode(context.sign_binary(query.encode(), SHA256)).decode()
        return f"{query}&Signature={quote(signature, safe='')}"

    def by_query(self, query: str) -> LogoutRequest:
        return self._asked(receive(self.service, MemoryState("fuzz"), "SAMLRequest", raw_query=query))

    def by_form(self, xml: bytes) -> LogoutRequest:
        form = (base64.b64encode(xml).decode(), "")
        return self._asked(receive(self.service, MemoryState("fuzz"), "SAMLRequest", form=form))

    @staticmethod
    def _asked(found: object) -> LogoutRequest:
        assert isinstance(found, LogoutRequest)
        return found


def tree_of(message: LogoutMessage) -> bytes:
    return etree.tostring(message.tree())


def of_form(message: LogoutMessage, key: SigningKey) -> bytes:
    return base64.b64decode(message.form(key)["SAMLRequest"])


@pytest.fixture
def logout_service(service: ServiceProvider, key: SigningKey, other_key: SigningKey) -> LogoutService:
    return LogoutService(service, key, other_key, key.load())


def outcomes(take: Callable[[], LogoutRequest], accepted: list[LogoutRequest], refused: list[Fault]) -> None:
    """Take a message; any exception but SamlError ends the test."""
    try:
        accepted.append(take())
    except SamlError as error:
        refused.append(error.reason)


def is_genuine(asked: LogoutRequest) -> bool:
    return (asked.name_id.value, asked.name_id.format, asked.session_indexes) == (ANN, EMAIL, ("session-1",))


def test_mutant_of_form_ends_only_named_sessions(logout_service: LogoutService) -> None:
    accepted: list[LogoutRequest] = []
    refused: list[Fault] = []
    assert is_genuine(logout_service.by_form(of_form(logout_service.genuine, logout_service.key)))
    for xml in logout_service.mutants("form", signed=True):
        outcomes(lambda xml=xml: logout_service.by_form(xml), accepted, refused)  # type: ignore[misc]  # bound at once
    # One that the provider has signed for mallory's sessions is none of ann's.
    assert {(is_genuine(asked), asked.request_id) for asked in accepted} <= {(True, "_genuine"), (False, "_other")}
    assert len(accepted) < MUTANTS / 2
    assert set(refused) >= {Fault.BAD_SIGNATURE, Fault.MALFORMED, Fault.STRUCTURE}


def test_unsigned_mutant_in_query_is_refused(logout_service: LogoutService) -> None:
    genuine = logout_service.genuine.query(logout_service.key)
    signature = base64.b64encode(b"x" * 256).decode()
    refused: list[Fault] = []
    accepted: list[LogoutRequest] = []
    for xml in logout_service.mutants("query", signed=False):
        outcomes(lambda xml=xml: logout_service.by_query(logout_service.query(xml, signature)), accepted, refused)  # type: ignore[misc]
    assert not accepted
    assert refused.count(Fault.BAD_SIGNATURE) > MUTANTS / 10
    assert is_genuine(logout_service.by_query(genuine))


def test_signed_mutant_in_query_is_accepted_or_refused(logout_service: LogoutService) -> None:
    accepted: list[LogoutRequest] = []
    refused: list[Fault] = []
    for xml in logout_service.mutants("signed query", signed=False):
        before = len(accepted)
        outcomes(lambda xml=xml: logout_service.by_query(logout_service.query(xml)), accepted, refused)  # type: ignore[misc]
        if len(accepted) > before:
            root = etree.fromstring(xml)
            assert root.get("Destination") == logout_service.service.slo_url
            assert root.findtext(f"{{{SAML}}}Issuer", "").strip(SPACE) == IDP
            names = [(name.text or "").strip(SPACE) for name in root.findall(f"{{{SAML}}}NameID")]
            assert names == [accepted[-1].name_id.value]
            assert len(root.findall(f"{{{SAMLP}}}SessionIndex")) == len(accepted[-1].session_indexes)
    assert accepted
    assert Fault.BAD_SIGNATURE not in refused
    assert set(refused) >= OFTEN


def test_mutant_of_query_is_genuine_or_refused(logout_service: LogoutService) -> None:
    chance = random.Random("query itself")
    genuine = logout_service.genuine.query(logout_service.key).encode()
    accepted: list[LogoutRequest] = []
    refused: list[Fault] = []
    for _ in range(MUTANTS):
        query = chance.choice(EDITS)(chance, genuine)
        outcomes(lambda query=query: logout_service.by_query(query.decode("latin-1")), accepted, refused)  # type: ignore[misc]
    assert all(is_genuine(asked) and not asked.relay_state for asked in accepted)
    assert len(refused) > MUTANTS / 2


def test_signed_relative_namespace_changes_no_user(logout_service: LogoutService) -> None:
    def extend(root: etree._Element) -> None:
        extensions = etree.Element(f"{{{SAMLP}}}Extensions")
        etree.SubElement(extensions, "{relative}NameID").text = EVIL
        root.insert(1, extensions)

    message = logout_service.genuine.but(before_signing=extend)
    assert is_genuine(logout_service.by_query(message.query(logout_service.key)))
    # A form's signature goes by canonicalization, which knows no relative namespace (xml-exc-c14n 1.3).
    root = message.tree()
    with pytest.raises(xmlsec.Error):
        sign(root, logout_service.key)
    signed = etree.fromstring(of_form(logout_service.genuine, logout_service.key))
    signed.insert(2, message.tree()[1])
    with pytest.raises(SamlError) as refusal:
        logout_service.by_form(etree.tostring(signed))
    assert refusal.value.reason is Fault.BAD_SIGNATURE
