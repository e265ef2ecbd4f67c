"""The fixtures of the SAML benchmark: an identity provider, contact centers, and our processing of a message."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ContactCenterSettings, IdentityProvider, KeyPair, Saml
from flask_genesys_auth.saml import binding, gate, verify
from flask_genesys_auth.saml.errors import SamlError
from flask_genesys_auth.saml.requests import Login, PendingLogin, Proven, digest, keep_proven
from flask_genesys_auth.saml.response import consume, cross_check
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, SigningKey, generate_signing_key, provider_metadata

IDP = "https://idp.example/metadata"
SSO = "https://idp.example/sso"
PUBLIC_URL = "https://portal.acme.example"
USER = "ann@acme.example"
HOURS = 8 * 3600.0
CODE_LIFETIME = 60.0
ATTRIBUTES = {
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname": ("Ann",),
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname": ("Onymous",),
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress": (USER,),
    "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups": ("agents", "supervisors", "everybody"),
}


@dataclass(frozen=True)
class Contender:
    """One way to verify a response.

    :param name: of its line in the table.
    :param call: verifies and returns the NameID.
    :param ready: restores the state before the next call; its time does not count.
    :param clock: CPU seconds so far of all that works for the call.
    :param weight: how many times fewer calls are made, for those that take long.
    """

    name: str
    call: Callable[[], str]
    ready: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.process_time
    weight: int = 1


@dataclass(frozen=True)
class Desk:
    """A provider's key, its metadata in a file, and one contact center that trusts it."""

    folder: Path
    key: SigningKey = field(default_factory=lambda: generate_signing_key("the benchmark's provider"))

    def metadata_file(self) -> Path:
        """Return the provider's metadata."""
        path = self.folder / "idp.xml"
        if not path.exists():
            path.write_text(provider_metadata(IDP, SSO, (self.key.certificate,)), encoding="utf-8")
        return path

    def service(self, name: str = "acme", *, own: SigningKey | None = None) -> ServiceProvider:
        """Return a contact center as a service provider.

        :param own: the key with which it decrypts.
        """
        pairs = (KeyPair(Secret(own.private_pem), own.certificate_pem),) if own else ()
        saml = Saml({"okta": IdentityProvider("okta", self.metadata_file())}, encryption_keys=pairs)
        center = ContactCenterSettings(name=name, id=name, saml=saml)
        return build_service_provider(center, public_url=PUBLIC_URL, prefix="/saml")

    def message(self, service: ServiceProvider, request_id: str = "") -> Message:
        """Return the provider's message: about 5 kB, a signed assertion, four attributes, valid for hours."""
        return Message(
            issuer=IDP,
            acs_url=service.acs_url,
            audience=service.entity_id,
            request_id=request_id or f"_request-{service.contact_center}",
            attributes=ATTRIBUTES,
            confirmation_not_on_or_after=HOURS,
            conditions_not_on_or_after=HOURS,
        )


def pending_login(service: ServiceProvider, request_id: str = "") -> PendingLogin:
    """Return a login that was begun."""
    return PendingLogin(
        request_id=request_id or f"_request-{service.contact_center}",
        contact_center=service.contact_center,
        provider="okta",
        return_to="/",
        nonce_hash=digest("nonce"),
        relay_state_hash=digest("relay"),
    )


def check(service: ServiceProvider, pending: PendingLogin, state: StateStore, encoded: str) -> Login:
    """Take a message through gate, verification and binding."""
    trust = service.providers["okta"].current()
    return binding.bind(
        verify.verify(gate.admit(encoded), trust, service.keys.decryption), service, trust, pending, state
    )


def complete(services: Mapping[str, ServiceProvider], name: str, state: StateStore, encoded: str) -> Login:
    """Do all that the assertion consumer service does: the request looked up and taken, the code kept."""
    received = consume(services[name], state, encoded, "relay")
    keep_proven(state, Proven(received.login, name, "/", received.pending), CODE_LIFETIME)
    return received.login


def begin(state: StateStore, pending: PendingLogin) -> None:
    """Put a begun login where :func:`complete` looks for it."""
    state.put(f"saml-request:{digest(pending.request_id)}", asdict(pending), HOURS)


def stateless(name: str, service: ServiceProvider, encoded: str, *, refused: bool = False) -> Contender:
    """Gate, verification and binding; a new empty memory each time, so that one response can be used again.

    :param refused: the message must be refused.
    """
    fresh: list[MemoryState] = []
    pending = pending_login(service)

    def ready() -> None:
        fresh[:] = [MemoryState("benchmark")]

    def refuse() -> str:
        try:
            check(service, pending, fresh[0], encoded)
        except SamlError:
            return USER
        return "somebody"

    if refused:
        return Contender(name, refuse, ready)

    return Contender(name, lambda: check(service, pending, fresh[0], encoded).subject, ready)


def cross_checked(name: str, service: ServiceProvider, encoded: str) -> Contender:
    """Do as :func:`stateless` does, and check with python3-saml as well."""
    ours = stateless(name, service, encoded)
    pending = pending_login(service)

    def call() -> str:
        found = ours.call()
        cross_check(service, service.providers["okta"].current(), encoded, pending.request_id, found)
        return found

    return Contender(name, call, ours.ready)


class Rewinding:
    """The complete way on a real store, again and again with the same responses.

    Records the keys that a response stores, and deletes them before the next one.

    :param responses: by the name of the contact center that each is for; they take turns.
    """

    def __init__(
        self, services: Mapping[str, ServiceProvider], state: StateStore, responses: Mapping[str, str]
    ) -> None:
        self._services, self._state, self._responses = services, state, responses
        self._spent = {name: self._first(name) for name in responses}
        self._turns = cycle(responses)
        self._name = ""

    def ready(self) -> None:
        """Forget that the next response was here before."""
        self._name = next(self._turns)
        for key in self._spent[self._name]:
            self._state.delete(key)
        begin(self._state, pending_login(self._services[self._name]))

    def call(self) -> str:
        """Take a response all the way."""
        return complete(self._services, self._name, self._state, self._responses[self._name]).subject

    def _first(self, name: str) -> Sequence[str]:
        noting = _Noting(self._state)
        begin(self._state, pending_login(self._services[name]))
        complete(self._services, name, noting, self._responses[name])  # type: ignore[arg-type]  # it hands all on
        return [key for key in noting.keys if self._state.get(key) is not None]


class _Noting:
    """A store that notes the keys that are written."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self.keys: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._state, name)

        def noted(key: str, *values: object, **more: object) -> object:
            self.keys.append(key)
            return method(key, *values, **more)

        return noted
