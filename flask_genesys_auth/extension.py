"""``GenesysAuth``: assembles the parts for an application; the only module that knows all of them.

``init_app`` imports optional parts when the configuration needs them: before a server forks, so that a missing
package is an error at the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast, overload

from flask import Blueprint, Flask, Response

from .accounts.enrolment import check_enrolment, follow_groups
from .accounts.from_model import describe_of
from .accounts.passwords import PasswordHasher
from .chain.contact_centers import ContactCenter, ContactCenters, DisabledStep, order_steps
from .chain.protocols import AccountStore, PasswordStore
from .chain.walk import AuthenticationChain
from .config.build import load_settings
from .config.databases import is_redis
from .config.rules import imported
from .errors import ConfigurationError
from .events import Event, log_event
from .limits import BeginLimit, FailureLimit, FailureThrottle, Ledger, LocalLedger
from .limits.cache import cached_accounts
from .limits.gate import CredentialGate, VerifiedCredentials
from .sessions import LoginSessions
from .state.health import check_methods
from .steps.login_session import LoginSessionStep
from .steps.saml import SamlStep
from .steps.web_services import WebServicesStep
from .web import login
from .web.health import public_urls, server_findings
from .web.hooks import Hooks
from .web.origin import Origins
from .web.policies import PolicyTable
from .web.runtime import EXTENSION, Runtime, SamlParts, runtime, without_steps
from .web.saml_failures import SamlFailures
from .web.texts import Texts, untranslated

if TYPE_CHECKING:
    from flask_login import LoginManager
    from typing_extensions import TypeVar

    from .accounts.models import Account
    from .chain.outcomes import Decision
    from .chain.protocols import StateStore, Step
    from .config.settings import ContactCenterSettings, Settings
    from .saml.service_provider import ServiceProvider
    from .sessions import SessionInfo
    from .state.database import Database
    from .upstream import Upstreams
    from .web.texts import ChooseLanguage

    U = TypeVar("U", default=Account)
else:
    from typing import TypeVar

    U = TypeVar("U")

CONFIG_KEY = "GENESYS_AUTH"

StepFactory: TypeAlias = "Step | type[Step] | str"


class GenesysAuth(Generic[U]):
    """The Flask extension: authenticates requests to Genesys Web Services contact centers.

    One object can serve several applications, because it keeps no state of theirs. It is generic in the user class:
    that of the ``accounts=`` store, else :class:`~flask_genesys_auth.accounts.models.Account`.

    :param app: if given, it is initialised at once.
    :param accounts: the application's own account store (default: a SQLAlchemy store at ``accounts_url``). If it is
        also a ``PasswordStore``, the Web Services step uses it.
    :param state: the application's own state store (default: the store at ``state_url``).
    :param extra_steps: additional steps of the chain: objects, classes, or ``"package.module:Class"``.
    :param language: returns the language of the current request's pages, such as Flask-Babel's ``get_locale``
        (default: by ``Accept-Language``).
    """

    @overload
    def __init__(
        self: GenesysAuth[Account],
        app: Flask | None = None,
        *,
        accounts: None = None,
        state: StateStore | None = None,
        extra_steps: Sequence[StepFactory] = (),
        language: ChooseLanguage | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        app: Flask | None = None,
        *,
        accounts: AccountStore[U],
        state: StateStore | None = None,
        extra_steps: Sequence[StepFactory] = (),
        language: ChooseLanguage | None = None,
    ) -> None: ...

    def __init__(
        self,
        app: Flask | None = None,
        *,
        accounts: AccountStore[Any] | None = None,
        state: StateStore | None = None,
        extra_steps: Sequence[StepFactory] = (),
        language: ChooseLanguage | None = None,
    ) -> None:
        self._accounts = accounts
        self._state = state
        self._extra_steps = tuple(extra_steps)
        self._language = language
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Protect this application.

        Reads ``app.config["GENESYS_AUTH"]`` (see the configuration reference), ``SECRET_KEY``,
        ``SESSION_COOKIE_SAMESITE``, ``SESSION_COOKIE_SECURE``, ``LOGIN_DISABLED`` and ``REMEMBER_COOKIE_NAME``.

        :raises ConfigurationError: with all problems of the configuration and the application at once.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(
                "GenesysAuth is already initialised for this application; call init_app once for each Flask object"
            )
        settings = _read_settings(app)
        here = self._assemble(app, settings)
        manager = login.attach(app, take_over_loaders=settings.take_over_loaders)
        app.extensions[EXTENSION] = here
        _set_cookie_defaults(app, settings)
        _register(app, here, manager)
        for finding in (*without_steps(here), *untranslated(settings), *server_findings()):
            log_event(Event.CONFIGURATION_WARNING, detail=finding)

    @property
    def current_user(self) -> U:
        """Flask-Login's ``current_user``, typed as the application's user class."""
        return cast("U", login.current_user)

    @property
    def current_decision(self) -> Decision[U]:
        """The decision of the current request, with the application's user class. Reading it walks the chain."""
        return login.current_decision  # type: ignore[return-value]  # it is whatever the store of this object returns

    def log_in_with_password(self, user_name: str, password: str) -> Decision[U]:
        """Check the name and password of a login form with the Basic steps, and log the user in if they are correct.

        The throttle counts as for Basic credentials. A form from another site is refused.

        :returns: the decision of those steps; see ``.authenticated``, ``.throttled`` and ``.unavailable``.
        :raises ForeignOrigin: if another site sent the form.
        :raises DirectoryUnavailable: if the state cannot store the login session.
        """
        return login.log_in_with_password(user_name, password)

    def logout(self) -> Response | None:
        """Log the current user out of this browser and server, then of the SAML identity provider of the login.

        :returns: the response that sends the browser to the provider (a redirect, or a page with a self-submitting
            form); the view must return it. ``None`` if there is no logout at a provider.
        :raises DirectoryUnavailable: if the state cannot end the login session; the user is still logged in.
        """
        if not runtime().saml.service_providers:
            login.end_session()
            return None
        from .web.saml_logout import leave

        return leave()

    def sessions(
        self, account_id: str | None = None, contact_center: str | None = None, *, limit: int | None = None
    ) -> list[SessionInfo]:
        """Return the active login sessions: all, or those of an account, a contact center, or both.

        :param limit: the maximum number that is returned and held in memory; all sessions are read.
        :returns: sorted by contact center, account and age.
        :raises StateUnavailable: if the state does not answer.
        """
        return login.list_sessions(account_id, contact_center, limit)

    def revoke(
        self, account_id: str | None = None, contact_center: str | None = None, *, session: str | None = None
    ) -> int:
        """End the login sessions of an account, a contact center, or both; or one session.

        All matching sessions that began before the call have ended when it returns.

        :param session: the handle of a :class:`SessionInfo`; excludes the other two.
        :returns: how many were ended.
        :raises ValueError: if no argument is given, or ``session`` together with another one.
        :raises StateUnavailable: if the state does not answer. Some sessions may have ended; repeat the call.
        """
        return login.revoke_sessions(account_id, contact_center, session)

    def _assemble(self, app: Flask, settings: Settings) -> Runtime:
        shared = _shared_database(settings) if self._state is None and self._accounts is None else None
        state = _state(settings, shared) if self._state is None else check_methods(self._state)
        hasher = PasswordHasher(settings.passwords)
        accounts = self._accounts
        if accounts is None:
            from .accounts.store import SqlAccounts

            accounts = SqlAccounts(settings.accounts_url, timeout=settings.state_timeout, database=shared)
        check_enrolment(accounts, settings)
        extra = _extra_steps((*self._extra_steps, *settings.extra_steps))
        providers = _service_providers(settings, state)
        ledger, verified = _ledger(settings), VerifiedCredentials()
        throttle = FailureThrottle(settings.throttle, state, ledger)
        recent = cached_accounts(accounts, settings.session.revocation_delay)
        steps = _StepBuilder(settings, accounts, hasher, ledger)
        centers = ContactCenters(
            settings,
            [
                ContactCenter(table, order_steps(steps.build(table), extra))
                for table in settings.contact_centers.values()
            ],
        )
        sessions = LoginSessions(state, settings.session)
        chain = AuthenticationChain(
            centers,
            settings.salesforce_headers,
            sessions=sessions,
            accounts=accounts,
            describe=describe_of(accounts),
            gate=CredentialGate(throttle, verified),
            recent=recent,
        )
        return Runtime(
            settings=settings,
            contact_centers=centers,
            chain=chain,
            accounts=accounts,
            hasher=hasher,
            state=state,
            sessions=sessions,
            policies=PolicyTable(app, settings),
            origins=Origins.of(settings, centers),
            texts=Texts(settings, self._language),
            throttle=throttle,
            saml=SamlParts(
                service_providers=providers,
                begin_limit=BeginLimit(settings.throttle.per_address, ledger),
                failures=SamlFailures(state),
            ),
            memories=tuple(one for one in (sessions, throttle, verified, recent, steps.upstreams) if one is not None),
        )


def _read_settings(app: Flask) -> Settings:
    """Read the configuration.

    :raises ConfigurationError: with all problems of it and of the application.
    """
    problems = [*_application_problems(app)]
    try:
        if CONFIG_KEY not in app.config:
            raise ConfigurationError(
                f'app.config["{CONFIG_KEY}"] is missing; the minimum is '
                '{"contact_centers": {"acme": {"web_services": {}}}}'
            )
        settings = load_settings(app.config[CONFIG_KEY], base_path=Path(app.instance_path), app_name=app.name)
    except ConfigurationError as error:
        raise ConfigurationError(*problems, *error.problems) from None
    if settings.saml_enabled and str(app.config["SESSION_COOKIE_SAMESITE"]).lower() == "strict":
        problems.append(
            "SESSION_COOKIE_SAMESITE: with 'Strict' the browser does not send the cookie when it returns from the SAML "
            "identity provider; use 'Lax'"
        )
    if problems:
        raise ConfigurationError(*problems)
    return settings


def _application_problems(app: Flask) -> Iterator[str]:
    if not app.secret_key:
        yield "SECRET_KEY: set it before init_app, to at least 32 random bytes; it signs the session cookie"
    if app.config.get("LOGIN_DISABLED") and not app.testing:
        yield "LOGIN_DISABLED: it disables flask_login.login_required; remove it (or set TESTING)"


def _set_cookie_defaults(app: Flask, settings: Settings) -> None:
    """Set SameSite, and Secure if all public URLs are https; HttpOnly is Flask's default."""
    if app.config["SESSION_COOKIE_SAMESITE"] is None:
        app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    addresses = public_urls(settings)
    if addresses and all(address.startswith("https://") for address in addresses):
        app.config["SESSION_COOKIE_SECURE"] = True


class _StepBuilder:
    """Builds the steps of contact centers from their shared parts.

    :ivar upstreams: the HTTP and LDAP clients of the steps, or ``None`` if no step needs one.
    """

    def __init__(self, settings: Settings, accounts: AccountStore[Any], hasher: PasswordHasher, ledger: Ledger) -> None:
        self.upstreams: Upstreams | None = None
        self._settings = settings
        self._accounts = accounts
        self._passwords = accounts if isinstance(accounts, PasswordStore) else None
        self._hasher = hasher
        self._ledger = ledger

    def build(self, table: ContactCenterSettings) -> list[Step]:
        """Return one step for each name of the flow; a disabled one if its table is missing."""
        return [
            self._salesforce(table),
            self._configuration_server(table),
            self._web_services(table),
            LoginSessionStep(),
            SamlStep(self._settings.saml_url_prefix) if table.saml else DisabledStep("saml"),
        ]

    def _salesforce(self, table: ContactCenterSettings) -> Step:
        if table.salesforce is None:
            return DisabledStep("salesforce")
        from .steps.salesforce import SalesforceStep

        return SalesforceStep(table.salesforce, self._clients().of(table.salesforce))

    def _configuration_server(self, table: ContactCenterSettings) -> Step:
        if table.configuration_server is None:
            return DisabledStep("configuration_server")
        from .directories import make_directory
        from .steps.configuration_server import ConfigurationServerStep

        wanted = table.configuration_server
        limit = FailureLimit(wanted.max_failures, self._ledger, name=f"configuration_server:{table.name}")
        enrol = None
        if wanted.ldap is not None and wanted.ldap.sync_roles:
            enrol = partial(follow_groups, self._accounts, role_map=wanted.ldap.role_map)
        directory = make_directory(wanted, self._clients(), contact_center=table.name)
        return ConfigurationServerStep(wanted, directory, limit, enrol=enrol)

    def _web_services(self, table: ContactCenterSettings) -> Step:
        if table.web_services is None:
            return DisabledStep("web_services")
        if self._passwords is None:
            raise ConfigurationError(
                f"contact_centers.{table.name}.web_services: the account store given to GenesysAuth has no "
                "passwords; give it password_hash() and replace_password_hash(), or remove the table"
            )
        return WebServicesStep(self._passwords, self._hasher, self._settings.passwords)

    def _clients(self) -> Upstreams:
        from .upstream import Upstreams

        self.upstreams = self.upstreams or Upstreams()
        return self.upstreams


def _state(settings: Settings, database: Database | None) -> StateStore:
    if settings.state_url.startswith("memory:"):
        from .state.memory import MemoryState

        return MemoryState(settings.state_namespace)
    if is_redis(settings.state_url):
        from .state.redis import RedisState

        return RedisState(settings.state_url, settings.state_namespace, settings.state_timeout)
    from .state.sql import SqlState

    return SqlState(settings.state_url, settings.state_namespace, settings.state_timeout, database=database)


def _shared_database(settings: Settings) -> Database | None:
    """Return the database of state and accounts, if both have the same URL."""
    if settings.accounts_url != settings.state_url:
        return None
    from .state.sql import state_database

    return state_database(settings.state_url, settings.state_timeout, durable=True)


def _ledger(settings: Settings) -> Ledger:
    url = settings.throttle.storage_url
    if not is_redis(url):
        return LocalLedger()
    from .limits.shared import SharedLedger

    return SharedLedger(url, settings.state_namespace, settings.state_timeout, fallback=settings.throttle.fallback)


def _service_providers(settings: Settings, state: StateStore) -> dict[str, ServiceProvider]:
    if not settings.saml_enabled:
        return {}
    from .saml.service_provider import build_service_provider

    return {
        table.name: build_service_provider(
            table,
            public_url=table.public_url or settings.public_url,
            prefix=settings.saml_url_prefix,
            state=state,
        )
        for table in settings.contact_centers.values()
        if table.saml is not None
    }


def _extra_steps(given: Sequence[StepFactory]) -> list[Step]:
    """Return the extra steps; classes are instantiated.

    :raises ConfigurationError: with all their problems.
    """
    problems: list[str] = []
    steps = [step for one in given if (step := _extra_step(one, problems)) is not None]
    if problems:
        raise ConfigurationError(*problems)
    return steps


def _extra_step(given: StepFactory, problems: list[str]) -> Step | None:
    try:
        made: object = imported(given, "extra_steps") if isinstance(given, str) else given
    except ConfigurationError as error:
        problems.extend(error.problems)
        return None
    if isinstance(made, type):
        made = made()
    if callable(getattr(made, "authenticate", None)) and callable(getattr(made, "challenge", None)):
        return cast("Step", made)
    problems.append(f"extra_steps: {made!r} is not a step; it needs name, authenticate() and challenge()")
    return None


def _register(app: Flask, here: Runtime, manager: LoginManager) -> None:
    pages = Blueprint(
        "genesys_auth",
        "flask_genesys_auth.web",
        template_folder="templates",
        static_folder="static",
        static_url_path="/genesys-auth/static",
    )
    app.register_blueprint(pages)
    app.context_processor(here.texts.template_context)
    if here.settings.saml_enabled:
        from .web.saml_views import create_blueprint

        app.register_blueprint(create_blueprint(here.settings.saml_url_prefix))
    Hooks(app, here, manager).install()
