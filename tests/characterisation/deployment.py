"""The applications of the table, and the servers and accounts behind them; made of public names only."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import flask_login
from argon2 import PasswordHasher
from click.testing import Result
from flask import Flask, Response, jsonify, request

from flask_genesys_auth import (
    AccountState,
    Authenticated,
    Decision,
    GenesysAuth,
    Identity,
    NotApplicable,
    Outcome,
    Reason,
    Refusal,
    Rejected,
    Unavailable,
    current_decision,
    current_user,
    roles_required,
    signals,
    unprotected,
)
from flask_genesys_auth.errors import AccountsUnavailable, StateUnavailable
from flask_genesys_auth.testing import DevelopmentIdentityProvider, GenesysEmulator, SalesforceEmulator, reset

(_ENTRY,) = entry_points(group="flask.commands", name="genesys-auth")
GENESYS_PASSWORD = "known to Genesys"
OWN_PASSWORD = "known to Web Services"
HASHES = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
THROTTLE = {"per_account": "3 per hour", "per_account_anywhere": "4 per hour", "per_address": "5 per hour"}
HOUR = 3600.0
BUILT_IN = "built-in accounts"
"""In the name of an application: its accounts are in SQLite, and commands change them."""
STEPS = ("salesforce", "configuration_server", "web_services")
SLOW = 60.0
"""Seconds that a server which answers may take: more than any machine needs."""
SHORT = 1.0
"""Seconds after which a server that hangs is given up."""


@dataclass(frozen=True)
class User:
    """A user of the application; the store knows it by its name."""

    name: str
    is_active: bool = True
    roles: frozenset[str] = frozenset()
    contact_center: str | None = "acme"
    password: str = ""
    version: str = "1"

    is_authenticated = True
    is_anonymous = False

    def get_id(self) -> str:
        return self.name


class Accounts:
    """An account store and a password store that count what they are asked."""

    def __init__(self) -> None:
        hashed = HASHES.hash(OWN_PASSWORD)
        self._made = {name: User(name, password=hashed) for name in ("ann", "bob")}
        self._made["sue"] = User("sue", password=hashed, roles=frozenset({"ROLE_SUPERVISOR"}))
        self._made["gus"] = User("gus", password=hashed, contact_center="globex")
        self.begin_anew()

    def begin_anew(self) -> None:
        self.users = dict(self._made)
        self.accounts_down = self.passwords_down = False
        self.forget()

    def forget(self) -> None:
        self.accounts_asked = self.passwords_asked = 0

    def change(self, name: str, **changes: Any) -> None:
        self.users[name] = replace(self.users[name], **changes)

    def find(self, identity: Identity) -> User | None:
        return self.get(identity.subject)

    def get(self, account_id: str) -> User | None:
        self.accounts_asked += 1
        if self.accounts_down:
            raise AccountsUnavailable("the accounts do not answer", retry_after=7)
        return self.users.get(account_id)

    def describe(self, user: User) -> AccountState:
        return AccountState(user.name, user.is_active, user.roles, user.contact_center, user.version)

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        self.passwords_asked += 1
        if self.passwords_down:
            raise AccountsUnavailable("the passwords do not answer", retry_after=9)
        user = self.users.get(user_name)
        return user.password if user is not None and user.contact_center in {contact_center, None} else None

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        self.change(user_name, password=new)


class State:
    """A state store of the application that can be down; nothing in it is kept long enough to expire."""

    def __init__(self) -> None:
        self.down = False
        self._values: dict[str, Any] = {}
        self._terms: dict[str, frozenset[str]] = {}

    def _open(self) -> dict[str, Any]:
        if self.down:
            raise StateUnavailable("the state does not answer", retry_after=13)
        return self._values

    def add(self, key: str, value: Any, ttl: float, *, index: Iterable[str] = ()) -> bool:
        if key in self._open():
            return False
        self.put(key, value, ttl, index=index)
        return True

    def put(self, key: str, value: Any, ttl: float, *, index: Iterable[str] = ()) -> None:
        self._open()[key] = value
        self._terms[key] = frozenset(index)

    def replace(self, key: str, value: Any, ttl: float) -> bool:
        if key not in self._open():
            return False
        self._values[key] = value
        return True

    def get(self, key: str) -> Any:
        return self._open().get(key)

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        return [self.get(key) for key in keys]

    def take(self, key: str) -> Any:
        return self._open().pop(key, None)

    def delete(self, key: str) -> bool:
        return self._open().pop(key, None) is not None

    def find(self, term: str) -> list[str]:
        return [key for key in self._open() if term in self._terms[key]]

    def find_each(self, term: str) -> Iterator[list[str]]:
        yield self.find(term)

    def delete_found(self, term: str) -> int:
        return sum(self.delete(key) for key in self.find(term))

    def purge(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def clear(self) -> None:
        self._values.clear()


class ExtraStep:
    """A step of the application: its outcome is the one that a header names."""

    name = "extra"

    def authenticate(self, evidence: Any, contact_center: Any) -> Outcome:
        wanted = request.headers.get("X-Extra", "")
        if wanted == "raise":
            raise ZeroDivisionError
        outcomes: dict[str, Outcome] = {
            "authenticated": Authenticated(Identity("extra", contact_center.name, "ann")),
            "of another contact center": Authenticated(Identity("extra", "globex", "ann")),
            "rejected": Rejected(),
            "unavailable": Unavailable(Reason.TIMED_OUT, retry_after=11),
            "not an outcome": None,  # type: ignore[dict-item]  # what a careless step may return
        }
        return outcomes.get(wanted, NotApplicable())

    def challenge(self, request: Any, contact_center: Any) -> None:
        return None


class Events(logging.Handler):
    """Keeps the package's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = vars(record)["genesys_auth"]
        if fields["event"].startswith("saml_metadata"):
            return  # from a thread that looks after metadata, perhaps another test's
        said = (record.levelname.lower(), fields["event"], fields["step"], fields["reason"])
        self.lines.append(" ".join(one for one in said if one))


@dataclass
class Application:
    """One application, and what its last request has led to."""

    app: Flask
    auth: GenesysAuth[Any]
    reads_basic: bool
    built_in: bool
    decision: Decision[User] | None = None
    signals: list[str] = field(default_factory=list)

    def forget(self) -> None:
        self.decision = None
        self.signals.clear()

    def run(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command, as ``flask`` finds it."""
        return self.app.test_cli_runner().invoke(_ENTRY.load(), arguments, input=stdin)


@dataclass
class Deployment:
    """The servers, the accounts and the log that all applications share."""

    salesforce: SalesforceEmulator
    genesys: GenesysEmulator
    refusing: str
    folder: Path
    accounts: Accounts = field(default_factory=Accounts)
    state: State = field(default_factory=State)
    events: Events = field(default_factory=Events)
    applications: dict[str, Application] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.genesys.add_user("ann", GENESYS_PASSWORD)
        self.genesys.add_user("sue", GENESYS_PASSWORD)
        self.genesys.add_user("gus", GENESYS_PASSWORD)
        self.session = self.salesforce.add_user("ann")
        self.ended_session = self.salesforce.add_user("ann")
        self.salesforce.end_session(self.ended_session)
        self.provider = DevelopmentIdentityProvider("https://idp.acme.example")
        self.provider.write_metadata(self.folder / "idp.xml")

    def begin_anew(self, application: Application) -> None:
        """Let nothing be remembered of earlier rows."""
        self.recover()
        reset(application.app)
        if application.built_in:
            application.run("accounts", "delete", "acme", "ann")
            application.run("accounts", "add", "acme", "ann", "--password-stdin", stdin=OWN_PASSWORD)
        self.accounts.begin_anew()
        self.forget(application)

    def recover(self) -> None:
        """Let every server and store answer again."""
        for emulator in (self.salesforce, self.genesys):
            emulator.repair()
        self.accounts.accounts_down = self.accounts.passwords_down = self.state.down = False

    def forget(self, application: Application) -> None:
        """Count and note from here on."""
        self.salesforce.forget()
        self.genesys.forget()
        self.accounts.forget()
        self.events.lines.clear()
        application.forget()

    def application(self, name: str) -> Application:
        """Return the application of this configuration, made at its first use."""
        if name not in self.applications:
            self.applications[name] = self._make(name)
        return self.applications[name]

    def _make(self, name: str) -> Application:
        accounts: Any = None if BUILT_IN in name else self.accounts
        auth: GenesysAuth[Any] = GenesysAuth(
            accounts=accounts,
            state=self.state if "own state" in name else None,
            extra_steps=[ExtraStep()] if "extra step" in name else [],
        )
        app = Flask("portal", instance_path=str(self.folder))
        app.secret_key = "a secret key of the tests"
        app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False)
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "accounts_url": f"sqlite:///{self.folder / 'accounts.sqlite3'}",
            "passwords": {"memory_kib": 8, "iterations": 1, "reuse_verified_for": HOUR},
            "throttle": THROTTLE,
            **self._settings(name),
        }
        auth.init_app(app)
        made = Application(app, auth, reads_basic=name != "salesforce", built_in=BUILT_IN in name)
        _add_views(made, self.accounts)
        _watch(made)
        if made.built_in:
            made.run("init-db")
        return made

    def _settings(self, name: str) -> dict[str, Any]:
        """Return the settings that an application's name stands for."""
        if name.startswith("two contact centers"):
            globex = self._center("all", organization="00D000000000002")
            return {
                "contact_centers": {
                    "acme": {
                        "hosts": ["acme.example"],
                        "realms": ["ACME"],
                        "domains": ["acme.example"],
                        "allowed_origins": ["https://desk.acme.example"],
                        **self._center("all"),
                    },
                    "globex": {
                        "hosts": ["globex.example"],
                        "realms": ["GLOBEX"],
                        "domains": ["globex.example"],
                        **globex,
                    },
                },
                "default_contact_center": "" if "no default" in name else "acme",
            }
        more: dict[str, Any] = {"contact_centers": {"acme": self._center(name)}}
        if "saml" in name:
            more["public_url"] = "https://portal.acme.example"
        if "login page" in name:
            more["login_view"] = "login_page"
        if "403" in name:
            more["unauthenticated_status"] = 403
        if "unprotected by default" in name:
            more["protect_by_default"] = False
        return more

    def _center(self, steps: str, *, organization: str = "00D000000000001") -> dict[str, Any]:
        wanted = [*steps.split(), *(STEPS if "all" in steps.split() else ())]
        return {name: table for name, table in self._tables(wanted, organization).items() if name in wanted}

    def _tables(self, steps: list[str], organization: str) -> dict[str, Any]:
        hangs = "hangs" in steps
        salesforce = self.refusing if "refusing-salesforce" in steps else self.salesforce.url
        genesys = self.refusing if "refusing-genesys" in steps else self.genesys.url
        return {
            "salesforce": {
                "organizations": [organization],
                "identity_hosts": [salesforce],
                "timeout": SHORT if hangs else SLOW,
                "reuse_verified_for": HOUR,
                "enabled": "switched-off" not in steps,
            },
            "configuration_server": {
                "directory": "genesys",
                "url": genesys,
                "client_id": self.genesys.client_id,
                "client_secret": self.genesys.client_secret,
                "max_failures": "2 per hour",
                "timeout": SHORT if hangs else SLOW,
                "reuse_verified_for": HOUR,
                "enabled": "switched-off" not in steps,
            },
            "web_services": {"enabled": "switched-off" not in steps},
            "saml": {"identity_providers": {"okta": {"metadata": str(self.folder / "idp.xml")}}},
        }


def name_of(user: Any) -> str | None:
    """Return the name of a user of either account store, or ``None`` if there is no user."""
    return getattr(user, "name", None) or getattr(user, "user_name", None) or None


def _add_views(made: Application, accounts: Accounts) -> None:
    app = made.app

    def answer() -> Response:
        return jsonify(statusCode=0, user=name_of(current_user))

    async def answer_async() -> Response:
        return jsonify(statusCode=0, user=name_of(current_user))

    def open_() -> Response:
        return jsonify(statusCode=0)

    async def open_async() -> Response:
        return jsonify(statusCode=0)

    def log_in_as(name: str) -> str:
        assert flask_login.login_user(accounts.users[name])
        return "logged in"

    def log_in() -> Response:
        decision = made.auth.log_in_with_password(request.form["name"], request.form["password"])
        made.decision = decision
        return jsonify(statusCode=0 if decision.authenticated else 20)

    views: tuple[tuple[str, Any, Any], ...] = (("", answer, open_), ("-async", answer_async, open_async))
    for kind, asks, is_open in views:
        app.add_url_rule(f"/protected{kind}", f"protected{kind}", asks, methods=["GET", "POST"])
        # Each endpoint has a function of its own: the marks are on the function.
        app.add_url_rule(f"/open{kind}", f"open{kind}", unprotected(is_open), methods=["GET", "POST"])
    app.add_url_rule("/asks", "asks", unprotected(_copy(answer)), methods=["GET", "POST"])
    app.add_url_rule("/asks-async", "asks-async", unprotected(_copy_async(answer_async)), methods=["GET", "POST"])
    role = roles_required("ROLE_SUPERVISOR")
    app.add_url_rule("/role", "role", role(_copy(answer)), methods=["GET", "POST"])
    app.add_url_rule("/role-async", "role-async", role(_copy_async(answer_async)), methods=["GET", "POST"])
    app.add_url_rule("/log-in-as/<name>", "log_in_as", unprotected(log_in_as), methods=["POST"])
    app.add_url_rule("/log-in", "log_in", unprotected(log_in), methods=["POST"])
    app.add_url_rule("/login", "login_page", unprotected(lambda: "log in here"))


def _copy(view: Any) -> Any:
    return lambda: view()


def _copy_async(view: Any) -> Any:
    async def copy() -> Any:
        return await view()

    return copy


def _watch(made: Application) -> None:
    @made.app.after_request
    def note_decision(answer: Response) -> Response:
        # An open view that does not ask who it is must stay so; the login form's decision is noted by its view.
        # After an error the walk would run again.
        asks = (request.endpoint or "").partition("-")[0] not in {"open", "log_in", "log_in_as", "login_page"}
        if asks and answer.status_code != 500:
            try:
                made.decision = current_decision._get_current_object()  # type: ignore[attr-defined]  # werkzeug's way
            except Refusal as refusal:
                made.decision = refusal.decision
        return answer

    def note(name: str) -> Any:
        return lambda sender, **values: made.signals.append(name)

    for name in ("authenticated", "rejected", "unavailable", "logged_in", "logged_out", "session_revoked"):
        getattr(signals, name).connect(note(name), made.app, weak=False)


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Serve the emulators and keep the log meanwhile."""
    logger = logging.getLogger("flask_genesys_auth")
    level = logger.level
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        salesforce, genesys = SalesforceEmulator(), GenesysEmulator()
        for emulator in (salesforce, genesys):
            stack.enter_context(emulator.serve())
        # Bound and never listening: a connection is refused, and nothing else gets this port meanwhile.
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        deployment = Deployment(salesforce, genesys, f"http://127.0.0.1:{refusing.getsockname()[1]}", folder)
        logger.addHandler(deployment.events)
        logger.setLevel(logging.DEBUG)
        try:
            yield deployment
        finally:
            logger.removeHandler(deployment.events)
            logger.setLevel(level)
