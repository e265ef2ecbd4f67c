"""A test client that is logged in from its first request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient

from ..accounts.store import SqlAccounts
from ..errors import ConfigurationError
from ..web.login import LOGIN
from ..web.runtime import Runtime, runtime


class AuthClient(FlaskClient):
    """A client with a login session of the server, made through the application's own stores.

    Set ``app.test_client_class = AuthClient``, then ``app.test_client(user="ann@acme.example")``. Its requests say
    ``Sec-Fetch-Site: same-origin``, as those of a browser on the application's own pages do.

    :param user: a user object of the application's account store, or a user name of the built-in store, where an
        account is made if there is none. Without one the client is anonymous.
    :param roles: with the built-in store, the roles that the account is given.
    :param contact_center: the table's name; needed where there are several and the account does not tell.
    :raises ConfigurationError: if ``roles`` or a name are given and the application has its own account store.
    """

    def __init__(
        self,
        *args: Any,
        user: Any = None,
        roles: Iterable[str] | None = None,
        contact_center: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.environ_base.setdefault("HTTP_SEC_FETCH_SITE", "same-origin")
        if user is not None:
            self.log_in(user, roles=roles, contact_center=contact_center)

    def log_in(self, user: Any, *, roles: Iterable[str] | None = None, contact_center: str | None = None) -> None:
        """Give this client a login session of this user, as if the application had logged them in."""
        app: Flask = self.application
        with app.app_context():
            here = runtime(app)
            center = contact_center or _only(here)
            if isinstance(user, str) or roles is not None:
                user = _own_account(here, user, roles, center)
            state = here.describe(user)
            opaque = here.sessions.start(
                contact_center=state.contact_center or center or _which(),
                account_id=state.account_id,
                step="application",
            )
        with self.session_transaction() as browser:
            browser[LOGIN] = browser["_user_id"] = opaque
            browser["_fresh"] = True


def _only(here: Runtime) -> str | None:
    default = here.contact_centers.default
    return default.name if default else None


def _which() -> str:
    raise ConfigurationError("AuthClient: say which contact center: app.test_client(user=..., contact_center='acme')")


def _own_account(here: Runtime, user: Any, roles: Iterable[str] | None, center: str | None) -> Any:
    if not isinstance(here.accounts, SqlAccounts):
        raise ConfigurationError(
            "AuthClient: the application has its own account store; give user= an object of it, its roles set there"
        )
    store = here.accounts
    store.create_tables()
    name = user if isinstance(user, str) else user.user_name
    home = center or getattr(user, "contact_center", None) or _which()
    account = store.get_by_name(home, name) or store.add(home, name)
    if roles is not None:
        store.set_roles(account.id, frozenset(roles))
    return cast("Any", store.get(account.id))
