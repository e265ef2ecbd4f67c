"""The peers of the SAML benchmark, used as their documentation shows; missing libraries are left out."""

from __future__ import annotations

import base64
import json
import resource
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xmlsec
from lxml import etree
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from xmlsec import constants

from flask_genesys_auth.saml.documents import DS, SAML
from flask_genesys_auth.saml.service_provider import ServiceProvider

from .saml_fixtures import IDP, SSO, Contender, Desk

_NODE = """
const [folder, options, body] = JSON.parse(process.argv[1]);
const { SAML } = require(require.resolve("@node-saml/node-saml", { paths: [folder] }));
const saml = new SAML(options);
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", async () => {
  const began = process.cpuUsage();
  const { profile } = await saml.validatePostResponseAsync(body);
  const used = process.cpuUsage(began);
  console.log(JSON.stringify([profile.nameID, (used.user + used.system) / 1e6]));
});
"""


def peers(
    desk: Desk, service: ServiceProvider, encoded: str, modules: Path | None, stack: ExitStack
) -> Iterator[Contender]:
    """Yield those that are installed.

    :param encoded: the response that all of them get.
    :param modules: a folder in which ``npm install @node-saml/node-saml`` was typed.
    :param stack: closes their resources.
    """
    yield from with_python3_saml(service, encoded)
    if find_spec("minisaml"):
        yield with_minisaml(desk, service, encoded)
    if find_spec("signxml"):
        yield with_signxml(desk, encoded)
    yield with_xmlsec(desk, encoded)
    if modules is not None and shutil.which("node"):
        yield with_node_saml(desk, service, encoded, modules, stack)
    if find_spec("saml2") and shutil.which("xmlsec1"):
        yield with_pysaml2(desk, service, encoded)


def with_python3_saml(service: ServiceProvider, encoded: str) -> Iterator[Contender]:
    """python3-saml with our own strict settings: built once, and from a dict for each response as in its README."""
    toolkit = service.providers["okta"].current().toolkit
    address = urlsplit(service.acs_url)
    posted = {"https": "on", "http_host": address.netloc, "script_name": address.path, "get_data": {}}
    values = {
        "strict": True,
        "debug": False,
        "sp": toolkit.get_sp_data(),
        "idp": toolkit.get_idp_data(),
        "security": toolkit.get_security_data(),
    }

    def ask(settings: OneLogin_Saml2_Settings) -> str:
        message = OneLogin_Saml2_Response(settings, encoded)
        assert message.is_valid(posted, "_request-acme", raise_exceptions=True)
        return str(message.get_nameid())

    yield Contender("python3-saml, settings reused", lambda: ask(toolkit))
    yield Contender("python3-saml, settings from a dict", lambda: ask(OneLogin_Saml2_Settings(deepcopy(values))))


def with_minisaml(desk: Desk, service: ServiceProvider, encoded: str) -> Contender:
    """minisaml, its certificate loaded once."""
    minisaml = _peer("minisaml.response")
    certificate = _peer("cryptography.x509").load_pem_x509_certificate(desk.key.certificate_pem.encode())

    def call() -> str:
        found = minisaml.validate_response(
            data=encoded, certificate=certificate, expected_audience=service.entity_id, idp_issuer=IDP
        )
        assert found.in_response_to == "_request-acme"
        return str(found.name_id)

    return Contender("minisaml", call)


def with_signxml(desk: Desk, encoded: str) -> Contender:
    """signxml: the signature alone."""
    signxml = _peer("signxml")
    expected = signxml.SignatureConfiguration(location=f"{{{SAML}}}Assertion/", require_x509=True)

    def call() -> str:
        root = etree.fromstring(base64.b64decode(encoded))
        found = signxml.XMLVerifier().verify(
            root, x509_cert=desk.key.certificate_pem, expect_config=expected, id_attribute="ID"
        )
        return str(found.signed_xml.findtext(f"{{{SAML}}}Subject/{{{SAML}}}NameID"))

    return Contender("signxml (signature alone)", call)


def with_xmlsec(desk: Desk, encoded: str) -> Contender:
    """Bare xmlsec: parse, find, verify, with the key loaded once."""
    key = xmlsec.Key.from_memory(desk.key.certificate_pem.encode(), constants.KeyDataFormatCertPem, None)

    def call() -> str:
        root = etree.fromstring(base64.b64decode(encoded))
        assertion = root.find(f"{{{SAML}}}Assertion")
        assert assertion is not None
        signature = assertion.find(f"{{{DS}}}Signature")
        assert signature is not None
        context = xmlsec.SignatureContext()
        context.key = key
        context.register_id(assertion, "ID")
        context.verify(signature)
        return str(assertion.findtext(f"{{{SAML}}}Subject/{{{SAML}}}NameID"))

    return Contender("bare xmlsec (signature alone)", call)


def with_node_saml(desk: Desk, service: ServiceProvider, encoded: str, modules: Path, stack: ExitStack) -> Contender:
    """node-saml in its own process, which reports its CPU time."""
    options = {
        "callbackUrl": service.acs_url,
        "entryPoint": SSO,
        "issuer": service.entity_id,
        "audience": service.entity_id,
        "idpIssuer": IDP,
        "idpCert": desk.key.certificate,
        "wantAssertionsSigned": True,
        "wantAuthnResponseSigned": False,
        "validateInResponseTo": "never",
    }
    told = json.dumps([str(modules), options, {"SAMLResponse": encoded}])
    process = stack.enter_context(
        subprocess.Popen(["node", "-e", _NODE, told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607 - the user's own node
    )
    spent = [0.0]

    def call() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        name, used = json.loads(process.stdout.readline())
        spent[0] += used
        return str(name)

    return Contender("node-saml", call, clock=lambda: spent[0])


def with_pysaml2(desk: Desk, service: ServiceProvider, encoded: str) -> Contender:
    """pysaml2, whose xmlsec1 processes count too."""
    post = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
    settings: dict[str, Any] = {
        "entityid": service.entity_id,
        "metadata": {"local": [str(desk.metadata_file())]},
        "xmlsec_binary": shutil.which("xmlsec1"),
        "allow_unknown_attributes": True,
        "service": {
            "sp": {
                "endpoints": {"assertion_consumer_service": [(service.acs_url, post)]},
                "want_assertions_signed": True,
                "want_response_signed": False,
            }
        },
    }
    client = _peer("saml2.client").Saml2Client(config=_peer("saml2.config").SPConfig().load(settings))

    def call() -> str:
        found = client.parse_authn_request_response(encoded, post, {"_request-acme": "/"})
        return str(found.get_subject().text)

    return Contender("pysaml2", call, clock=_with_children, weight=20)


def _peer(name: str) -> Any:
    """Import an optional library and ignore its deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def _with_children() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
