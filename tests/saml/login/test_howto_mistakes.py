"""A forgotten step of a page about an identity provider has the documented reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_genesys_auth.saml.documents import EXCLUSIVE_C14N, as_instant
from flask_genesys_auth.saml.errors import SamlError
from flask_genesys_auth.saml.service_provider import build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey

from ..conftest import NOW, Consumer
from ..shapes import EMAIL, SHAPES, TRANSIENT, Shape
from ..verify.test_provider_responses import posted, written
from .test_howto_pages import PAGES, page_text, provider_of, settings_of, table_of

Change = Callable[[str], str]

SIGNATURE = re.compile(r"<(?:\w+:)?Signature [^>]*>.*?</(?:\w+:)?Signature>", re.DOTALL)


def becomes(pattern: str, text: str) -> Change:
    """Write this in the place of whatever is like the pattern."""
    return lambda message: re.sub(pattern, lambda _: text, message)


def sign_response_only(message: str) -> str:
    """Leave the assertion's own signature out; a response that has none gets it."""
    *around, own = SIGNATURE.finditer(message)
    without = message[: own.start()] + message[own.end() :]
    if around:
        return without
    response = re.search(r'Response [^>]*?\bID="([^"]+)"', message)
    assert response is not None
    moved = re.sub(r'URI="#[^"]+"', f'URI="#{response[1]}"', own[0])
    return re.sub(r"</(?:\w+:)?Issuer>", lambda issuer: issuer[0] + moved, without, count=1)


SHA1 = becomes("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2000/09/xmldsig#rsa-sha1")
OTHER_C14N = becomes(f'Algorithm="{EXCLUSIVE_C14N}"', 'Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"')
OTHER_AUDIENCE = becomes(r"(?<=Audience>)https:[^<]+", "https://elsewhere.example")
OTHER_DOMAIN = becomes(r"ann@acme\.example(?=</(?:\w+:)?NameID>)", "ann@elsewhere.example")
GUEST = becomes(r"ann@acme\.example(?=</NameID>)", "ann_elsewhere.example#EXT#@acme.onmicrosoft.example")
FORGOTTEN: list[tuple[str, Change, str]] = [
    ("okta", sign_response_only, "not_signed"),
    ("okta", OTHER_AUDIENCE, "audience"),
    ("okta", becomes('Destination="[^"]+"', 'Destination="https://elsewhere.example"'), "destination"),
    ("okta", becomes('Recipient="[^"]+"', 'Recipient="https://elsewhere.example"'), "recipient"),
    ("okta", OTHER_DOMAIN, "email_domain"),
    ("entra", sign_response_only, "not_signed"),
    ("entra", SHA1, "algorithm"),
    ("entra", GUEST, "email_domain"),
    ("adfs", becomes("<NameID .*</NameID>", ""), "name_id"),
    ("adfs", sign_response_only, "not_signed"),
    ("adfs", SHA1, "algorithm"),
    ("adfs", OTHER_AUDIENCE, "audience"),
    ("adfs", becomes('NotBefore="[^"]+"', f'NotBefore="{as_instant(NOW + 61)}"'), "not_yet_valid"),
    ("keycloak", sign_response_only, "not_signed"),
    ("keycloak", becomes("<saml:AuthnStatement.*</saml:AuthnStatement>", ""), "authn_statement"),
    ("keycloak", SHA1, "algorithm"),
    ("keycloak", OTHER_C14N, "algorithm"),
    ("keycloak", becomes('NotOnOrAfter="[^"]+"', f'NotOnOrAfter="{as_instant(NOW - 61)}"'), "expired"),
    ("keycloak", OTHER_DOMAIN, "email_domain"),
    ("google", sign_response_only, "not_signed"),
    ("google", OTHER_DOMAIN, "email_domain"),
    ("simplesamlphp", becomes(f'(?<=Format="){EMAIL}', TRANSIENT), "name_id"),
    ("simplesamlphp", OTHER_DOMAIN, "email_domain"),
]


def shape_of(page: str) -> Shape:
    return next(shape for shape in SHAPES if shape.name == PAGES[page])


def consumer_of(page: str, metadata_file: Path, key: SigningKey) -> Consumer:
    """An application that is configured as the page says."""
    table = table_of(page)
    provider_of(table)["metadata"] = str(metadata_file)
    settings = settings_of(table, metadata_file.parent)
    center = settings.contact_centers["acme"]
    service = build_service_provider(center, public_url=settings.public_url, prefix="/saml", clock=lambda: NOW)
    return Consumer(service, key, MemoryState("tests"))


@pytest.mark.parametrize(
    ("page", "change", "reason"),
    FORGOTTEN,
    ids=[f"{page}-{reason}-{place}" for place, (page, _, reason) in enumerate(FORGOTTEN)],
)
def test_forgotten_step_has_the_documented_reason(
    page: str, change: Change, reason: str, metadata_file: Path, key: SigningKey
) -> None:
    consumer = consumer_of(page, metadata_file, key)
    assert consumer.accept(posted(written(consumer, shape_of(page)))).subject == shape_of(page).subject
    with pytest.raises(SamlError) as refusal:
        consumer_of(page, metadata_file, key).accept(posted(written(consumer, shape_of(page), change)))
    assert str(refusal.value.reason) == reason
    assert f"`{reason}`" in page_text(page).partition("## When it does not work")[2]


def test_groups_link_is_not_a_group(metadata_file: Path, key: SigningKey) -> None:
    """Entra sends a link for a user in more than 150 groups; with ``sync_roles`` the user then has no role."""
    consumer = consumer_of("entra", metadata_file, key)
    assert "groups" in consumer.accept(posted(written(consumer, shape_of("entra")))).attributes
    link = (
        '<Attribute Name="http://schemas.microsoft.com/claims/groups.link"><AttributeValue>'
        "https://graph.windows.example/users/1/getMemberObjects</AttributeValue></Attribute>"
    )
    message = written(consumer, shape_of("entra"), becomes('<Attribute Name="[^"]*/groups">.*?</Attribute>', link))
    assert "groups" not in consumer_of("entra", metadata_file, key).accept(posted(message)).attributes
