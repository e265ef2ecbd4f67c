"""An application with a SAML login, really served; tests look into its state, and its settings can change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from flask import Flask
from lxml import etree

from flask_genesys_auth import GenesysAuth, current_user, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.saml.documents import MD
from flask_genesys_auth.saml.metadata import REDIRECT
from flask_genesys_auth.saml.trust import TrustedProvider
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.testing.server import LoopbackServer
from flask_genesys_auth.web.runtime import runtime
from tests.saml.provider_site import age_metadata_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "desk"
PROVIDER = "idp"
# Of a page that names no icon, browsers ask for one.
PAGE = '<!doctype html><title>Desk</title><link rel="icon" href="data:,"><main><h1>{words}</h1></main>'


class Desk:
    """A served application; until :meth:`open` there is only its address.

    :param folder: for its accounts and state, which outlive a change of settings.
    :param host: ``localhost`` is another site than a provider at 127.0.0.1.
    """

    def __init__(self, folder: Path, host: str = "localhost") -> None:
        folder.mkdir()
        self._folder = folder
        self._app: Flask | None = None
        self._server = LoopbackServer(self._answer, host=host).start()
        self.url = self._server.url

    def open(self, name_id: str, saml: Mapping[str, Any]) -> None:
        """Begin to answer, or go on with other settings, as after a restart.

        :param name_id: of the one person who has an account.
        :param saml: the ``saml`` table of the contact center ``acme``.
        """
        self._close_app()
        app = Flask(COOKIE, instance_path=str(self._folder))
        app.secret_key = "a secret key of the tests"
        app.config["SESSION_COOKIE_NAME"] = COOKIE
        app.config["GENESYS_AUTH"] = {
            "public_url": self.url,
            "contact_centers": {"acme": {"saml": saml}},
        }
        GenesysAuth(app)
        store = runtime(app).accounts
        assert isinstance(store, SqlAccounts)
        store.create_tables()
        if not store.list("acme"):
            store.add("acme", name_id, identities=[(provider, name_id) for provider in saml["identity_providers"]])

        @app.get("/")
        @app.get("/private")
        def private() -> str:
            return PAGE.format(words=f"Hello {current_user.user_name}")

        @app.get("/open")
        @unprotected
        def open_() -> str:
            return PAGE.format(words="Open to everybody")

        self._app = app

    def close(self) -> None:
        self._server.stop()
        self._close_app()

    def address(self, name: str) -> str:
        return f"{self.url}/saml/acme/{name}"

    def metadata(self) -> bytes:
        """Return what our own metadata say, by HTTP."""
        answer = urllib3.request("GET", self.address("metadata"), retries=False)
        assert answer.status == 200
        return answer.data

    def age_metadata_by(self, clock: Callable[[], float]) -> None:
        """Make the provider's metadata age by this clock."""
        assert self._app is not None
        age_metadata_by(clock, self._app)

    @property
    def provider(self) -> TrustedProvider:
        assert self._app is not None
        return runtime(self._app).saml.service_providers["acme"].providers[PROVIDER]

    def status_with(self, cookie: str, path: str = "/private") -> int:
        """Return how a request with this session cookie, kept from earlier, is answered."""
        headers = {"Cookie": f"{COOKIE}={cookie}", "Accept": "text/html"}
        return urllib3.request("GET", self.url + path, headers=headers, redirect=False, retries=False).status

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        assert self._app is not None
        return self._app(environ, start_response)

    def _close_app(self) -> None:
        if self._app is not None:
            store = runtime(self._app).accounts
            assert isinstance(store, SqlAccounts)
            store.close()
            runtime(self._app).state.close()


def pair(key: SigningKey) -> dict[str, str]:
    """A pair of ``encryption_keys``."""
    return {"key": key.private_pem, "certificate": key.certificate_pem}


def signing(key: SigningKey) -> dict[str, str]:
    """The settings that make a contact center sign."""
    return {"signing_key": key.private_pem, "signing_certificate": key.certificate_pem}


def by_post_only(metadata: bytes) -> bytes:
    """Metadata without single logout by Redirect."""
    root = etree.fromstring(metadata)
    for role in root:
        for service in role.findall(f"{{{MD}}}SingleLogoutService[@Binding='{REDIRECT}']"):
            role.remove(service)
    return etree.tostring(root)
