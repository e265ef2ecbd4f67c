"""A service provider, signing keys, and a consumer that runs admit, verify and bind."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from flask_genesys_auth.config.settings import ContactCenterSettings, IdentityProvider, Saml
from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.requests import Login, PendingLogin, digest
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.trust import Trust
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, SigningKey, generate_signing_key, provider_metadata

from .addresses import IDP, PUBLIC_URL, SSO
from .application import app, browser, make_app

__all__ = ["app", "browser", "make_app"]

REQUEST_ID = "_request-1"
NOW = float(int(time.time()))


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return generate_signing_key("the provider")


@pytest.fixture(scope="session")
def other_key() -> SigningKey:
    return generate_signing_key("somebody else")


def center(metadata: Path, name: str = "acme", **provider: object) -> ContactCenterSettings:
    """Return a contact center with one identity provider, ``okta``."""
    saml = Saml({"okta": IdentityProvider("okta", metadata, **provider)})  # type: ignore[arg-type]  # free-form for tests
    return ContactCenterSettings(name=name, id=name, saml=saml)


@pytest.fixture
def metadata_file(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(provider_metadata(IDP, SSO, (key.certificate,)))
    return path


@pytest.fixture
def service(metadata_file: Path) -> ServiceProvider:
    return build_service_provider(center(metadata_file), public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)


def trust_of(service: ServiceProvider) -> Trust:
    """Return the trust of the only identity provider."""
    (provider,) = service.providers.values()
    return provider.current()


def pending(service: ServiceProvider, **changes: Any) -> PendingLogin:
    """Return the pending login of ``REQUEST_ID``."""
    begun = PendingLogin(
        request_id=REQUEST_ID,
        contact_center=service.contact_center,
        provider=trust_of(service).name,
        return_to="/",
        nonce_hash=digest("nonce"),
        relay_state_hash=digest("relay"),
    )
    return dataclasses.replace(begun, **changes)


def genuine(service: ServiceProvider) -> Message:
    """Return the genuine message of the provider."""
    return Message(
        issuer=trust_of(service).entity_id,
        acs_url=service.acs_url,
        audience=service.entity_id,
        request_id=REQUEST_ID,
        now=NOW,
    )


def referee_accepts(service: ServiceProvider, encoded: str) -> bool:
    """Return whether python3-saml accepts a message at the time of the tests."""
    address = urlsplit(service.acs_url)
    posted = {"https": "on", "http_host": address.netloc, "script_name": address.path, "get_data": {}}
    message = OneLogin_Saml2_Response(trust_of(service).toolkit, encoded)
    with pytest.MonkeyPatch.context() as clock:
        # It uses the clock of the machine, which is later than that of these messages.
        clock.setattr(OneLogin_Saml2_Utils, "now", staticmethod(lambda: int(NOW)))
        return bool(message.is_valid(posted, REQUEST_ID, raise_exceptions=True))


@dataclass(frozen=True)
class Consumer:
    """Runs admit, verify and bind, like the assertion consumer service."""

    service: ServiceProvider
    key: SigningKey
    state: MemoryState

    def accept(
        self,
        message: Message | str,
        *,
        service: ServiceProvider | None = None,
        request: PendingLogin | None = None,
        referee: bool = True,
    ) -> Login:
        """Accept a message or raise. python3-saml must accept an accepted message too.

        :param request: default: a pending login that need not be in the state.
        """
        service = service or self.service
        if service.clock is time.time:
            # Independent of the duration of earlier tests.
            service = dataclasses.replace(service, clock=lambda: NOW)
        encoded = message if isinstance(message, str) else message.encoded(self.key)
        admitted = admit(encoded)
        trust = trust_of(service)
        verified = verify(admitted, trust)
        login = bind(verified, service, trust, request or pending(service), self.state)
        assert not referee or referee_accepts(service, encoded)
        return login

    @property
    def genuine(self) -> Message:
        """A new genuine message each time."""
        return genuine(self.service)

    def refuses(self, message: Message | str, *faults: Fault, service: ServiceProvider | None = None) -> SamlError:
        """Check that the genuine message is accepted and this one is not, for the right reason."""
        assert self.accept(self.genuine).subject == "ann@acme.example"
        with pytest.raises(SamlError) as refusal:
            self.accept(message, service=service)
        assert refusal.value.reason in faults, refusal.value
        return refusal.value


@pytest.fixture
def consumer(service: ServiceProvider, key: SigningKey) -> Consumer:
    return Consumer(service, key, MemoryState("tests"))
