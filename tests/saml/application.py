"""An application with a SAML login, its browser and its provider, in one process."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth import GenesysAuth, current_user, unprotected
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.errors import AccountsUnavailable, StateUnavailable
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, SigningKey, provider_metadata
from flask_genesys_auth.web.runtime import runtime

from .addresses import IDP, PUBLIC_URL, SSO

ANN = "ann@acme.example"
CSP = "Content-Security-Policy"
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
REFUSED = "could not be accepted"


def idp_of(provider: str) -> str:
    """Return the entity ID of an identity provider of ``others``."""
    return f"https://{provider}.example/metadata"


class BreakableState(MemoryState):
    """A memory state that can fail on request."""

    broken = False
    retry_after = 5

    def get(self, key: str) -> Any:
        self._fail()
        return super().get(key)

    def put(self, *args: Any, **more: Any) -> None:
        self._fail()
        super().put(*args, **more)

    def take(self, key: str) -> Any:
        self._fail()
        return super().take(key)

    def add(self, *args: Any, **more: Any) -> bool:
        self._fail()
        return super().add(*args, **more)

    def find(self, term: str) -> list[str]:
        self._fail()
        return super().find(term)

    def delete(self, key: str) -> bool:
        self._fail()
        return super().delete(key)

    def delete_found(self, term: str) -> int:
        self._fail()
        return super().delete_found(term)

    def _fail(self) -> None:
        if self.broken:
            raise StateUnavailable("told to fail", retry_after=self.retry_after)


class BreakableAccounts(SqlAccounts):
    """Accounts that can fail on request."""

    broken = False

    def find(self, identity: Identity) -> Account | None:
        if self.broken:
            raise AccountsUnavailable("told to fail")
        return super().find(identity)


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(tmp_path: Path, key: SigningKey) -> Iterator[MakeApp]:
    with making(tmp_path, key) as make:
        yield make


@contextmanager
def making(tmp_path: Path, key: SigningKey) -> Iterator[MakeApp]:
    """Yield a function that makes applications; close all of them at the end."""
    made: list[Flask] = []
    (tmp_path / "idp.xml").write_text(provider_metadata(IDP, SSO, (key.certificate,)))

    def make(
        centers: tuple[str, ...] = ("acme",),
        *,
        okta: dict[str, Any] | None = None,
        others: dict[str, dict[str, Any]] | None = None,
        table: dict[str, Any] | None = None,
        plain: str = "",
        state: StateStore | None = None,
        **saml: Any,
    ) -> Flask:
        """An application whose contact centers trust ``okta`` and perhaps others, all of them with the same key.

        :param table: what else each contact center's table has.
        :param plain: a contact center without SAML.
        :param state: instead of memory that can be told not to answer.
        """
        app = Flask("desk", instance_path=str(tmp_path / f"instance{len(made)}"))
        app.secret_key = "a secret key of the tests"
        app.testing = True
        providers = {"okta": {"metadata": str(tmp_path / "idp.xml"), **(okta or {})}}
        for name, more in (others or {}).items():
            path = tmp_path / f"{name}.xml"
            path.write_text(provider_metadata(idp_of(name), f"https://{name}.example/sso", (key.certificate,)))
            providers[name] = {"metadata": str(path), **more}
        hosts = {"acme": ["portal.acme.example", "desk.acme.example"], "umbra": ["umbra.example"]}
        app.config["GENESYS_AUTH"] = {
            "default_contact_center": "acme",
            "state_url": "memory://",
            "contact_centers": {
                name: {
                    "hosts": hosts[name],
                    "public_url": f"https://{hosts[name][0]}",
                    **({} if name == plain else {"saml": {"identity_providers": providers, **saml}}),
                    **(table or {}),
                }
                for name in centers
            },
        }
        database = tmp_path / f"accounts{len(made)}.sqlite3"
        GenesysAuth(
            app,
            state=BreakableState("desk") if state is None else state,
            accounts=BreakableAccounts(f"sqlite:///{database}"),
        )
        made.append(app)
        store = accounts(app)
        store.create_tables()
        ann = store.add("acme", ANN, roles={"ROLE_AGENT"})
        for name in providers:
            store.link(ann.id, name, ANN)

        @app.get("/private")
        def private() -> str:
            return current_user.user_name

        @app.get("/keep")
        @unprotected
        def keep() -> str:
            session["basket"] = "full"
            return "kept"

        return app

    try:
        yield make
    finally:
        for app in made:
            accounts(app).close()
            runtime(app).state.close()


def accounts(app: Flask) -> BreakableAccounts:
    store = runtime(app).accounts
    assert isinstance(store, BreakableAccounts)
    return store


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


class Browser:
    """A client of the application, and the identity provider behind it."""

    def __init__(self, app: Flask, key: SigningKey, url: str = PUBLIC_URL, contact_center: str = "acme") -> None:
        self.client: FlaskClient = app.test_client()
        self.key = key
        self.url = url
        self.base = f"/saml/{contact_center}"

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, base_url=self.url, **more)

    def post(self, path: str, **more: Any) -> TestResponse:
        return self.client.post(path, base_url=self.url, **more)

    def begin(self, next_: str = "/private", **query: str) -> tuple[etree._Element, str]:
        """Begin a login; return the AuthnRequest and RelayState."""
        answer = self.get(f"{self.base}/login?{urlencode({'next': next_, **query})}")
        assert answer.status_code == 302
        fields = parse_qs(urlsplit(answer.headers["Location"]).query)
        request = zlib.decompress(base64.b64decode(fields["SAMLRequest"][0]), -zlib.MAX_WBITS)
        return etree.fromstring(request), fields["RelayState"][0]

    def unsolicited(self, **changes: Any) -> Message:
        """Return an unsolicited response."""
        acs = f"{self.url}{self.base}/acs"
        return Message(IDP, acs, f"{self.url}{self.base}/metadata", None).but(**changes)

    def message(self, request: etree._Element, **changes: Any) -> Message:
        acs = request.get("AssertionConsumerServiceURL", "")
        audience = request.findtext("{*}Issuer") or ""
        return Message(IDP, acs, audience, request.get("ID")).but(**changes)

    def answer(self, message: Message, relay_state: str | None, **more: Any) -> TestResponse:
        """Post the provider's answer, as from another site: without this browser's cookie."""
        fields = {"SAMLResponse": message.encoded(self.key)}
        if relay_state is not None:
            fields["RelayState"] = relay_state
        stranger = self.client.application.test_client(use_cookies=False)
        return stranger.post(f"{self.base}/acs", base_url=self.url, data=fields, **more)

    def code(self, next_: str = "/private", idp: str = "", **changes: Any) -> str:
        """Log in up to the one-time code; return the path with it."""
        request, relay_state = self.begin(next_, idp=idp)
        answer = self.answer(self.message(request, **changes), relay_state)
        assert answer.status_code == 303, answer.text
        assert "Set-Cookie" not in answer.headers
        location = urlsplit(answer.headers["Location"])
        assert f"{location.scheme}://{location.netloc}" == self.url
        return f"{location.path}?{location.query}"

    def log_in(self, next_: str = "/private", **changes: Any) -> TestResponse:
        return self.get(self.code(next_, **changes))

    @property
    def user(self) -> str:
        """The name of the logged-in user, or empty."""
        answer = self.get("/private")
        return answer.text if answer.status_code == 200 else ""


@pytest.fixture
def browser(app: Flask, key: SigningKey) -> Browser:
    return Browser(app, key)


def assert_refused(answer: TestResponse, log: pytest.LogCaptureFixture, reason: str) -> None:
    """One public answer, whatever the reason; the reason is in the log alone, under the same reference."""
    record = log.records[-1]
    told = vars(record)["genesys_auth"]
    assert told["event"] in {"saml_refused", "saml_logout_refused"}
    assert told["reason"] == reason, record.getMessage()
    assert answer.status_code == 400
    assert REFUSED in answer.text
    assert told["reference"] in answer.text
    assert reason not in re.sub("<[^>]*>", "", answer.text)
    assert told["detail"] not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
