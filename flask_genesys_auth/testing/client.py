"""A test client that is logged in from its first request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask.testing import FlaskClient

from ..accounts.models import Account
from ..accounts.store import SqlAccounts
from ..errors import ConfigurationError
from ..web.browser import BrowserSession
from ..web.runtime import Runtime, runtime
from .isolation import note_change
from .server import basic_authorization

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from .identity_provider import DevelopmentIdentityProvider
    from .saml_login import SamlLogin


class AuthClient(FlaskClient):
    """A client with a login session, with headers, or with Basic credentials; it can also log in by SAML.

    Set ``app.test_client_class = AuthClient``, then ``app.test_client(user="ann@acme.example")``. Its requests have
    ``Sec-Fetch-Site: same-origin``, like a browser's from a page of the application.

    :param user: starts a login session. A user object of the application's account store, or a user name of the
        built-in store, which creates a missing account.
    :param roles: with the built-in store, the account's roles.
    :param contact_center: the table's name; required if there are several and the account does not name one.
    :param headers: sent with every request, such as those that ``salesforce_emulator.add_user()`` returns.
    :param basic: a user name and a password, sent with every request (RFC 7617).
    :raises ConfigurationError: if a user name or ``roles`` are given, and the application has its own account store.
    """

    def __init__(
        self,
        *args: Any,
        user: object = None,
        roles: Iterable[str] | None = None,
        contact_center: str | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.environ_base.setdefault("HTTP_SEC_FETCH_SITE", "same-origin")
        self.send_always(headers or {})
        if basic is not None:
            self.send_always({"Authorization": basic_authorization(*basic)})
        if user is not None:
            self.log_in(user, roles=roles, contact_center=contact_center)

    def log_in(self, user: object, *, roles: Iterable[str] | None = None, contact_center: str | None = None) -> None:
        """Start a login session for this client, as ``login_user`` would.

        The parameters are those of the class.
        """
        app: Flask = self.application
        with app.app_context():
            here = runtime(app)
            center = contact_center or _only(here)
            if isinstance(user, str) or roles is not None:
                user = _own_account(app, here, user, roles, center)
            state = here.chain.describe(user)
            opaque = here.sessions.start(
                contact_center=state.contact_center or center or _which(),
                account_id=state.account_id,
                step="application",
            )
        with self.session_transaction() as browser:
            BrowserSession(browser).log_in(opaque)
            browser["_fresh"] = True

    def log_in_with_saml(
        self,
        provider: DevelopmentIdentityProvider,
        user: str,
        *,
        contact_center: str | None = None,
        idp: str = "",
        return_to: str = "/",
    ) -> TestResponse:
        """Perform a SAML login, from the application to the provider and back.

        :param provider: one that the application trusts; it need not be served.
        :param user: a name given to its ``add_user()``.
        :param idp: the provider's name in the configuration, if there are several.
        :returns: the application's last response: the redirect (303) to ``return_to``, or a refusal.
        :raises LookupError: if the provider has no such user.
        """
        begun = self.begin_saml_login(provider, contact_center=contact_center, idp=idp, return_to=return_to)
        return begun.finish(user)

    def begin_saml_login(
        self,
        provider: DevelopmentIdentityProvider,
        *,
        contact_center: str | None = None,
        idp: str = "",
        return_to: str = "/",
    ) -> SamlLogin:
        """Begin a SAML login that the test answers itself.

        The parameters are those of :meth:`log_in_with_saml`.

        :raises AssertionError: if the application does not start a login.
        """
        from .saml_login import SamlLogin

        center = contact_center or _only(runtime(self.application)) or _which()
        return SamlLogin(self, provider, contact_center=center, idp=idp, return_to=return_to)

    def send_always(self, headers: Mapping[str, str]) -> None:
        """Add headers to every further request of this client."""
        for name, value in headers.items():
            self.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = value


def _only(here: Runtime) -> str | None:
    default = here.contact_centers.default
    return default.name if default else None


def _which() -> str:
    raise ConfigurationError("AuthClient: name the contact center: app.test_client(user=..., contact_center='acme')")


def _own_account(
    app: Flask, here: Runtime, user: object, roles: Iterable[str] | None, center: str | None
) -> Account | None:
    store = here.accounts
    if not isinstance(store, SqlAccounts) or not isinstance(user, (str, Account)):
        raise ConfigurationError(
            "AuthClient: the application has its own account store: pass one of its user objects, without roles="
        )
    store.create_tables()
    name, home = (user.user_name, user.contact_center) if isinstance(user, Account) else (user, center or _which())
    account = store.get_by_name(home, name)
    if account is None:
        account = store.add(home, name)
        note_change(app, account, None)
    if roles is not None and frozenset(roles) != account.roles:
        note_change(app, account, account.roles)
        store.set_roles(account.id, frozenset(roles))
    return store.get(account.id)
