"""Responses of known identity providers, with their prefixes, signatures and attributes.

Each is a text, written after the provider's documentation, with empty signatures in it that :func:`signed` fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import fill

import xmlsec
from lxml import etree

from flask_genesys_auth.saml.documents import DS, EXCLUSIVE_C14N, SAML, SAMLP, as_instant
from flask_genesys_auth.saml.signatures import ENVELOPED
from flask_genesys_auth.testing.saml_messages import SigningKey

SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
URI_NAMES = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
BASIC_NAMES = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"
XS = 'xmlns:xs="http://www.w3.org/2001/XMLSchema"'
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
CLAIMS = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"
ROLES = "http://schemas.microsoft.com/ws/2008/06/identity/claims"
PRINCIPAL = "urn:oid:1.3.6.1.4.1.5923.1.1.1.6"


@dataclass(frozen=True)
class Facts:
    """The values of a provider's response."""

    idp: str
    acs: str
    audience: str
    request: str
    now: float
    key: SigningKey

    def at(self, offset: float, fraction: str = "") -> str:
        """An instant so many seconds from now."""
        return as_instant(self.now + offset).replace("Z", f"{fraction}Z")


@dataclass(frozen=True)
class Shape:
    """A provider's form of a response, and the values to be read from it.

    :param attributes: the provider's names by ours, as in the configuration.
    :param expected: what our attributes then are.
    """

    write: Callable[[Facts], str]
    subject: str = "ann@acme.example"
    match: str = "name_id"
    attributes: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.write.__name__


def signature(
    to: str,
    prefix: str = "ds",
    *,
    method: str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    digest: str = "http://www.w3.org/2001/04/xmlenc#sha256",
    prefixes: str = "",
    key_info: str = "",
    gap: str = "",
) -> str:
    """An empty signature of the element with this ID; ``gap`` stands between its elements."""
    p = f"{prefix}:" if prefix else ""
    declared = f'xmlns:{prefix}="{DS}"' if prefix else f'xmlns="{DS}"'
    inclusive = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE_C14N}" PrefixList="{prefixes}"/>' if prefixes else ""
    parts = (
        f"<{p}Signature {declared}>",
        f"<{p}SignedInfo>",
        f'<{p}CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}"/>',
        f'<{p}SignatureMethod Algorithm="{method}"/>',
        f'<{p}Reference URI="#{to}"><{p}Transforms>',
        f'<{p}Transform Algorithm="{ENVELOPED}"/>',
        f'<{p}Transform Algorithm="{EXCLUSIVE_C14N}">{inclusive}</{p}Transform>',
        f'</{p}Transforms><{p}DigestMethod Algorithm="{digest}"/><{p}DigestValue/></{p}Reference>',
        f"</{p}SignedInfo>",
        f"<{p}SignatureValue/>",
        f"{key_info}</{p}Signature>",
    )
    return gap.join(parts)


def certificate(key: SigningKey, prefix: str = "ds", *, subject: str = "", width: int = 0) -> str:
    """X509Data, the certificate in lines of so many characters."""
    p = f"{prefix}:" if prefix else ""
    text = f"\n{fill(key.certificate, width)}\n" if width else key.certificate
    named = f"<{p}X509SubjectName>{subject}</{p}X509SubjectName>" if subject else ""
    return f"<{p}X509Data>{named}<{p}X509Certificate>{text}</{p}X509Certificate></{p}X509Data>"


def entra(f: Facts) -> str:
    """Microsoft Entra ID: default namespaces, assertion signed, claims by URI before the authentication."""
    info = f"<KeyInfo>{certificate(f.key, '')}</KeyInfo>"
    claims = {
        "http://schemas.microsoft.com/identity/claims/tenantid": ["9a1f6ea8-b4c5-4fa8-9c33-8b1ff3b9fd52"],
        "http://schemas.microsoft.com/identity/claims/displayname": ["Ann Onymous"],
        f"{ROLES}/groups": ["b0d3a1f2-0001", "b0d3a1f2-0002"],
        "http://schemas.microsoft.com/claims/authnmethodsreferences": [ROLES + "/password", "multipleauthn"],
        f"{CLAIMS}/givenname": ["Ann"],
        f"{CLAIMS}/name": ["ann@acme.example"],
    }
    listed = "".join(
        f'<Attribute Name="{name}">{"".join(f"<AttributeValue>{v}</AttributeValue>" for v in values)}</Attribute>'
        for name, values in claims.items()
    )
    return (
        f'<samlp:Response ID="_r1" Version="2.0" IssueInstant="{f.at(0, ".614")}" Destination="{f.acs}" '
        f'InResponseTo="{f.request}" xmlns:samlp="{SAMLP}"><Issuer xmlns="{SAML}">{f.idp}</Issuer>'
        f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status>'
        f'<Assertion ID="_a1" IssueInstant="{f.at(0, ".599")}" Version="2.0" xmlns="{SAML}"><Issuer>{f.idp}</Issuer>'
        f'{signature("_a1", "", key_info=info)}<Subject><NameID Format="{EMAIL}">ann@acme.example</NameID>'
        f'<SubjectConfirmation Method="{BEARER}"><SubjectConfirmationData InResponseTo="{f.request}" '
        f'NotOnOrAfter="{f.at(3600, ".583")}" Recipient="{f.acs}"/></SubjectConfirmation></Subject>'
        f'<Conditions NotBefore="{f.at(-300, ".583")}" NotOnOrAfter="{f.at(3600, ".583")}"><AudienceRestriction>'
        f"<Audience>{f.audience}</Audience></AudienceRestriction></Conditions>"
        f"<AttributeStatement>{listed}</AttributeStatement>"
        f'<AuthnStatement AuthnInstant="{f.at(-60, ".000")}" SessionIndex="_a1"><AuthnContext>'
        f"<AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</AuthnContextClassRef>"
        f"</AuthnContext></AuthnStatement></Assertion></samlp:Response>"
    )


def okta(f: Facts) -> str:
    """Okta: a declaration, saml2p and saml2 declared where used, both signed, PrefixList, typed values."""
    info = f"<ds:KeyInfo>{certificate(f.key, width=76)}</ds:KeyInfo>"
    entity = 'Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity"'
    names = 'NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:unspecified"'

    def attribute(name: str, *values: str) -> str:
        typed = f'<saml2:AttributeValue {XS} {XSI} xsi:type="xs:string">'
        listed = "".join(f"{typed}{value}</saml2:AttributeValue>" for value in values)
        return f'<saml2:Attribute Name="{name}" {names}>{listed}</saml2:Attribute>'

    return (
        f'<?xml version="1.0" encoding="UTF-8"?><saml2p:Response Destination="{f.acs}" ID="id10" '
        f'InResponseTo="{f.request}" IssueInstant="{f.at(0, ".123")}" Version="2.0" xmlns:saml2p="{SAMLP}" {XS}>'
        f'<saml2:Issuer {entity} xmlns:saml2="{SAML}">{f.idp}</saml2:Issuer>'
        f"{signature('id10', prefixes='xs', key_info=info)}"
        f'<saml2p:Status xmlns:saml2p="{SAMLP}"><saml2p:StatusCode Value="{SUCCESS}"/></saml2p:Status>'
        f'<saml2:Assertion ID="id11" IssueInstant="{f.at(0, ".123")}" Version="2.0" xmlns:saml2="{SAML}" {XS}>'
        f'<saml2:Issuer {entity} xmlns:saml2="{SAML}">{f.idp}</saml2:Issuer>'
        f"{signature('id11', prefixes='xs', key_info=info)}"
        f'<saml2:Subject xmlns:saml2="{SAML}"><saml2:NameID Format="{UNSPECIFIED}">ann@acme.example</saml2:NameID>'
        f'<saml2:SubjectConfirmation Method="{BEARER}"><saml2:SubjectConfirmationData InResponseTo="{f.request}" '
        f'NotOnOrAfter="{f.at(300, ".123")}" Recipient="{f.acs}"/></saml2:SubjectConfirmation></saml2:Subject>'
        f'<saml2:Conditions NotBefore="{f.at(-300, ".123")}" NotOnOrAfter="{f.at(300, ".123")}" '
        f'xmlns:saml2="{SAML}"><saml2:AudienceRestriction><saml2:Audience>{f.audience}</saml2:Audience>'
        f'</saml2:AudienceRestriction></saml2:Conditions><saml2:AuthnStatement AuthnInstant="{f.at(0, ".123")}" '
        f'SessionIndex="{f.request}" xmlns:saml2="{SAML}"><saml2:AuthnContext><saml2:AuthnContextClassRef>{PASSWORD}'
        f"</saml2:AuthnContextClassRef></saml2:AuthnContext></saml2:AuthnStatement>"
        f'<saml2:AttributeStatement xmlns:saml2="{SAML}">{attribute("firstName", "Ann")}'
        f"{attribute('email', 'ann@acme.example')}{attribute('groups', 'Agents', 'Everyone')}"
        f"</saml2:AttributeStatement></saml2:Assertion></saml2p:Response>"
    )


def adfs(f: Facts) -> str:
    """AD FS: Consent, a signature with KeyInfo in the default namespace, Windows authentication."""
    info = f'<KeyInfo xmlns="{DS}">{certificate(f.key)}</KeyInfo>'

    def claim(name: str, *values: str) -> str:
        listed = "".join(f"<AttributeValue>{value}</AttributeValue>" for value in values)
        return f'<Attribute Name="{name}">{listed}</Attribute>'

    return (
        f'<samlp:Response ID="_b2f0" Version="2.0" IssueInstant="{f.at(0, ".9386724")}" Destination="{f.acs}" '
        f'Consent="urn:oasis:names:tc:SAML:2.0:consent:unspecified" InResponseTo="{f.request}" '
        f'xmlns:samlp="{SAMLP}"><Issuer xmlns="{SAML}">{f.idp}</Issuer>'
        f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}" /></samlp:Status>'
        f'<Assertion ID="_b2f1" IssueInstant="{f.at(0, ".938")}" Version="2.0" xmlns="{SAML}">'
        f"<Issuer>{f.idp}</Issuer>{signature('_b2f1', key_info=info)}"
        f'<Subject><NameID Format="{UNSPECIFIED}">ACME\\ann</NameID><SubjectConfirmation Method="{BEARER}">'
        f'<SubjectConfirmationData InResponseTo="{f.request}" NotOnOrAfter="{f.at(300, ".938")}" '
        f'Recipient="{f.acs}" /></SubjectConfirmation></Subject><Conditions NotBefore="{f.at(0, ".922")}" '
        f'NotOnOrAfter="{f.at(3600, ".922")}"><AudienceRestriction><Audience>{f.audience}</Audience>'
        f"</AudienceRestriction></Conditions><AttributeStatement>{claim(CLAIMS + '/emailaddress', 'ann@acme.example')}"
        f"{claim(ROLES + '/role', 'Domain Users', 'Agents &amp; Co')}</AttributeStatement>"
        f'<AuthnStatement AuthnInstant="{f.at(-2, ".891")}" SessionIndex="_b2f1"><AuthnContext>'
        f"<AuthnContextClassRef>urn:federation:authentication:windows</AuthnContextClassRef></AuthnContext>"
        f"</AuthnStatement></Assertion></samlp:Response>"
    )


def keycloak(f: Facts) -> str:
    """Keycloak: both signed as dsig, KeyName and RSAKeyValue, OneTimeUse, one Role attribute for each role."""
    info = (
        f"<dsig:KeyInfo><dsig:KeyName>FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE</dsig:KeyName>"
        f"{certificate(f.key, 'dsig')}<dsig:KeyValue><dsig:RSAKeyValue><dsig:Modulus>AQAB</dsig:Modulus>"
        f"<dsig:Exponent>AQAB</dsig:Exponent></dsig:RSAKeyValue></dsig:KeyValue></dsig:KeyInfo>"
    )

    def attribute(name: str, value: str, friendly: str = "") -> str:
        shown = f'FriendlyName="{friendly}" ' if friendly else ""
        return (
            f'<saml:Attribute {shown}Name="{name}" NameFormat="{BASIC_NAMES}"><saml:AttributeValue {XS} {XSI} '
            f'xsi:type="xs:string">{value}</saml:AttributeValue></saml:Attribute>'
        )

    return (
        f'<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" Destination="{f.acs}" ID="ID_r" '
        f'InResponseTo="{f.request}" IssueInstant="{f.at(0, ".601")}" Version="2.0">'
        f"<saml:Issuer>{f.idp}</saml:Issuer>{signature('ID_r', 'dsig', key_info=info)}"
        f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status>'
        f'<saml:Assertion xmlns="{SAML}" ID="ID_a" IssueInstant="{f.at(0, ".600")}" Version="2.0">'
        f"<saml:Issuer>{f.idp}</saml:Issuer>{signature('ID_a', 'dsig', key_info=info)}<saml:Subject>"
        f'<saml:NameID Format="{EMAIL}">ann@acme.example</saml:NameID><saml:SubjectConfirmation Method="{BEARER}">'
        f'<saml:SubjectConfirmationData InResponseTo="{f.request}" NotOnOrAfter="{f.at(58, ".600")}" '
        f'Recipient="{f.acs}"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="'
        f'{f.at(-2, ".600")}" NotOnOrAfter="{f.at(58, ".600")}"><saml:AudienceRestriction><saml:Audience>'
        f"{f.audience}</saml:Audience></saml:AudienceRestriction><saml:OneTimeUse/></saml:Conditions>"
        f'<saml:AuthnStatement AuthnInstant="{f.at(0, ".602")}" SessionIndex="4ac2::d1" SessionNotOnOrAfter="'
        f'{f.at(36000, ".602")}"><saml:AuthnContext><saml:AuthnContextClassRef>{UNSPECIFIED}'
        f"</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>"
        f"{attribute('Role', 'manage-account')}{attribute('Role', 'agent')}"
        f"{attribute('email', 'ann@acme.example', 'email')}</saml:AttributeStatement></saml:Assertion></samlp:Response>"
    )


def google(f: Facts) -> str:
    """Google Workspace: X509SubjectName, no attributes (until some are mapped)."""
    return google_of(f, response=False)


def google_signed_response(f: Facts) -> str:
    """Google Workspace with "Signed response" on: the Response is signed in the assertion's place."""
    return google_of(f, response=True)


def google_of(f: Facts, *, response: bool) -> str:
    """Google Workspace, with the one signature that it makes."""
    name = "ST=California,C=US,OU=Google For Work,CN=Google,L=Mountain View,O=Google Inc."
    info = f"<ds:KeyInfo>{certificate(f.key, subject=name, width=76)}</ds:KeyInfo>"
    made = signature("_g1" if response else "_g2", key_info=info)
    return (
        f'<?xml version="1.0" encoding="UTF-8" standalone="no"?><saml2p:Response xmlns:saml2p="{SAMLP}" '
        f'Destination="{f.acs}" ID="_g1" InResponseTo="{f.request}" IssueInstant="{f.at(0, ".077")}" Version="2.0">'
        f'<saml2:Issuer xmlns:saml2="{SAML}">{f.idp}</saml2:Issuer>{made if response else ""}<saml2p:Status>'
        f'<saml2p:StatusCode Value="{SUCCESS}"/></saml2p:Status><saml2:Assertion xmlns:saml2="{SAML}" ID="_g2" '
        f'IssueInstant="{f.at(0, ".077")}" Version="2.0"><saml2:Issuer>{f.idp}</saml2:Issuer>'
        f'{"" if response else made}<saml2:Subject><saml2:NameID Format="{EMAIL}">ann@acme.example</saml2:NameID>'
        f'<saml2:SubjectConfirmation Method="{BEARER}"><saml2:SubjectConfirmationData InResponseTo="{f.request}" '
        f'NotOnOrAfter="{f.at(300, ".077")}" Recipient="{f.acs}"/></saml2:SubjectConfirmation></saml2:Subject>'
        f'<saml2:Conditions NotBefore="{f.at(-300, ".077")}" NotOnOrAfter="{f.at(300, ".077")}">'
        f"<saml2:AudienceRestriction><saml2:Audience>{f.audience}</saml2:Audience></saml2:AudienceRestriction>"
        f'</saml2:Conditions><saml2:AuthnStatement AuthnInstant="{f.at(-5, ".000")}" SessionIndex="_g2">'
        f"<saml2:AuthnContext><saml2:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"
        f"</saml2:AuthnContextClassRef></saml2:AuthnContext></saml2:AuthnStatement></saml2:Assertion>"
        f"</saml2p:Response>"
    )


def ping(f: Facts) -> str:
    """PingFederate: line breaks within the signature, one statement of typed values, one of others."""
    info = f"<ds:KeyInfo>\n{certificate(f.key, width=76)}\n</ds:KeyInfo>\n"
    typed = f'<saml:AttributeValue xsi:type="xs:string" {XSI}>'
    return (
        f'<samlp:Response Version="2.0" ID="p1" IssueInstant="{f.at(0, ".222")}" InResponseTo="{f.request}" '
        f'Destination="{f.acs}" xmlns:samlp="{SAMLP}"><saml:Issuer xmlns:saml="{SAML}">{f.idp}</saml:Issuer>'
        f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status><saml:Assertion ID="p2" IssueInstant="'
        f'{f.at(0, ".322")}" Version="2.0" xmlns:saml="{SAML}"><saml:Issuer>{f.idp}</saml:Issuer>'
        f'{signature("p2", key_info=info, gap=chr(10))}<saml:Subject><saml:NameID Format="{UNSPECIFIED}">'
        f'ann@acme.example</saml:NameID><saml:SubjectConfirmation Method="{BEARER}"><saml:SubjectConfirmationData '
        f'Recipient="{f.acs}" NotOnOrAfter="{f.at(300, ".322")}" InResponseTo="{f.request}"/>'
        f'</saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="{f.at(-300, ".322")}" NotOnOrAfter="'
        f'{f.at(300, ".322")}"><saml:AudienceRestriction><saml:Audience>{f.audience}</saml:Audience>'
        f'</saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement SessionIndex="p2" AuthnInstant="'
        f'{f.at(0, ".222")}"><saml:AuthnContext><saml:AuthnContextClassRef>{PASSWORD}</saml:AuthnContextClassRef>'
        f'</saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement {XS}><saml:Attribute Name="mail" '
        f'NameFormat="{BASIC_NAMES}">{typed}ann@acme.example</saml:AttributeValue></saml:Attribute>'
        f'</saml:AttributeStatement><saml:AttributeStatement {XS}><saml:Attribute Name="memberOf" NameFormat="'
        f'{BASIC_NAMES}">{typed}CN=Agents,DC=acme</saml:AttributeValue><saml:AttributeValue></saml:AttributeValue>'
        f"{typed}CN=Zoë,DC=acme</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"
        f"</samlp:Response>"
    )


def simplesaml(f: Facts) -> str:
    """SimpleSAMLphp: both signed, xs and xsi declared on the assertion, eduPersonTargetedID holds a NameID."""
    info = f"<ds:KeyInfo>{certificate(f.key)}</ds:KeyInfo>"
    typed = '<saml:AttributeValue xsi:type="xs:string">'
    targeted = "urn:oid:1.3.6.1.4.1.5923.1.1.1.10"
    persistent = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    return (
        f'<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_s1" Version="2.0" IssueInstant="{f.at(0)}" '
        f'Destination="{f.acs}" InResponseTo="{f.request}"><saml:Issuer>{f.idp}</saml:Issuer>'
        f"{signature('_s1', key_info=info, gap=chr(10) + '  ')}<samlp:Status><samlp:StatusCode "
        f'Value="{SUCCESS}"/></samlp:Status><saml:Assertion {XSI} {XS} ID="_s2" Version="2.0" IssueInstant="{f.at(0)}">'
        f"<saml:Issuer>{f.idp}</saml:Issuer>{signature('_s2', key_info=info, gap=chr(10) + '  ')}<saml:Subject>"
        f'<saml:NameID SPNameQualifier="{f.audience}" Format="{EMAIL}">ann@acme.example</saml:NameID>'
        f'<saml:SubjectConfirmation Method="{BEARER}"><saml:SubjectConfirmationData NotOnOrAfter="{f.at(300)}" '
        f'Recipient="{f.acs}" InResponseTo="{f.request}"/></saml:SubjectConfirmation></saml:Subject>'
        f'<saml:Conditions NotBefore="{f.at(-30)}" NotOnOrAfter="{f.at(300)}"><saml:AudienceRestriction>'
        f"<saml:Audience>{f.audience}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
        f'<saml:AuthnStatement AuthnInstant="{f.at(-9)}" SessionNotOnOrAfter="{f.at(28800)}" SessionIndex="_si">'
        f"<saml:AuthnContext><saml:AuthnContextClassRef>{PASSWORD}</saml:AuthnContextClassRef></saml:AuthnContext>"
        f'</saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name="givenName" NameFormat="{BASIC_NAMES}">'
        f'{typed}Ann</saml:AttributeValue></saml:Attribute><saml:Attribute Name="{targeted}" NameFormat="{URI_NAMES}">'
        f'<saml:AttributeValue><saml:NameID NameQualifier="{f.idp}" SPNameQualifier="{f.audience}" Format="'
        f'{persistent}">2c5fb7c8</saml:NameID></saml:AttributeValue></saml:Attribute></saml:AttributeStatement>'
        f"</saml:Assertion></samlp:Response>"
    )


def shibboleth(f: Facts) -> str:
    """Shibboleth: a transient NameID, the principal name as an attribute by OID, SHA-512, Advice, ProxyRestriction."""
    info = f"<ds:KeyInfo>{certificate(f.key, width=64)}</ds:KeyInfo>"
    sha512 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", "http://www.w3.org/2001/04/xmlenc#sha512"
    made = signature("_h2", method=sha512[0], digest=sha512[1], prefixes="xsd", key_info=info, gap="\n")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<saml2p:Response Destination="{f.acs}" ID="_h1" '
        f'InResponseTo="{f.request}" IssueInstant="{f.at(0, ".301")}" Version="2.0" xmlns:saml2p="{SAMLP}">'
        f'<saml2:Issuer xmlns:saml2="{SAML}">{f.idp}</saml2:Issuer><saml2p:Status>'
        f'<saml2p:StatusCode Value="{SUCCESS}"/><saml2p:StatusMessage>Success</saml2p:StatusMessage></saml2p:Status>'
        f'<saml2:Assertion ID="_h2" IssueInstant="{f.at(0, ".301")}" Version="2.0" xmlns:saml2="{SAML}" '
        f'xmlns:xsd="http://www.w3.org/2001/XMLSchema"><saml2:Issuer>{f.idp}</saml2:Issuer>{made}<saml2:Subject>'
        f'<saml2:NameID Format="{TRANSIENT}" NameQualifier="{f.idp}" SPNameQualifier="{f.audience}">AAdzZWNyZXQx'
        f'</saml2:NameID><saml2:SubjectConfirmation Method="{BEARER}"><saml2:SubjectConfirmationData '
        f'Address="192.0.2.7" InResponseTo="{f.request}" NotOnOrAfter="{f.at(300, ".311")}" Recipient="{f.acs}"/>'
        f'</saml2:SubjectConfirmation></saml2:Subject><saml2:Conditions NotBefore="{f.at(0, ".301")}" '
        f'NotOnOrAfter="{f.at(300, ".301")}"><saml2:AudienceRestriction><saml2:Audience>https://federation.example'
        f"</saml2:Audience><saml2:Audience>{f.audience}</saml2:Audience></saml2:AudienceRestriction>"
        f'<saml2:ProxyRestriction Count="0"/></saml2:Conditions><saml2:Advice><saml2:AssertionIDRef>_earlier'
        f'</saml2:AssertionIDRef></saml2:Advice><saml2:AuthnStatement AuthnInstant="{f.at(-1, ".299")}" '
        f'SessionIndex="_h3"><saml2:SubjectLocality Address="192.0.2.7"/><saml2:AuthnContext>'
        f"<saml2:AuthnContextClassRef>{PASSWORD}</saml2:AuthnContextClassRef></saml2:AuthnContext>"
        f'</saml2:AuthnStatement><saml2:AttributeStatement><saml2:Attribute FriendlyName="eduPersonPrincipalName" '
        f'Name="{PRINCIPAL}" NameFormat="{URI_NAMES}"><saml2:AttributeValue {XSI} xsi:type="xsd:string">'
        f"ann@acme.example</saml2:AttributeValue></saml2:Attribute></saml2:AttributeStatement></saml2:Assertion>"
        f"</saml2p:Response>"
    )


SHAPES = (
    Shape(
        entra,
        attributes={"first_name": f"{CLAIMS}/givenname", "groups": f"{ROLES}/groups"},
        expected={"first_name": ("Ann",), "groups": ("b0d3a1f2-0001", "b0d3a1f2-0002")},
    ),
    Shape(
        okta,
        attributes={"first_name": "firstName", "email": "email", "groups": "groups"},
        expected={"first_name": ("Ann",), "email": ("ann@acme.example",), "groups": ("Agents", "Everyone")},
    ),
    Shape(
        adfs,
        subject="ACME\\ann",
        attributes={"email": f"{CLAIMS}/emailaddress", "groups": f"{ROLES}/role"},
        expected={"email": ("ann@acme.example",), "groups": ("Domain Users", "Agents & Co")},
    ),
    Shape(
        keycloak,
        attributes={"email": "email", "groups": "Role"},
        expected={"email": ("ann@acme.example",), "groups": ("manage-account", "agent")},
    ),
    Shape(google),
    Shape(
        ping,
        match="attribute:mail",
        attributes={"email": "mail", "groups": "memberOf"},
        expected={"email": ("ann@acme.example",), "groups": ("CN=Agents,DC=acme", "CN=Zoë,DC=acme")},
    ),
    Shape(simplesaml, attributes={"first_name": "givenName"}, expected={"first_name": ("Ann",)}),
    Shape(
        shibboleth,
        match=f"attribute:{PRINCIPAL}",
        attributes={"email": PRINCIPAL},
        expected={"email": ("ann@acme.example",)},
    ),
)


def signed(text: str, key: SigningKey) -> bytes:
    """Fill the signatures, the innermost first, and return the message as bytes."""
    root = etree.fromstring(text.encode())
    made = [element for element in root.iter() if element.tag == f"{{{DS}}}Signature"]
    for element in reversed(made):
        parent = element.getparent()
        assert parent is not None
        context = xmlsec.SignatureContext()
        context.key = key.load()
        context.register_id(parent, "ID")
        context.sign(element)
    return etree.tostring(root, encoding="utf-8")
