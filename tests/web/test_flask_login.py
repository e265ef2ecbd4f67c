"""Flask-Login 0.6.3: what an application sees, and each behaviour of it on which this package depends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask_login
import pytest
from flask import Flask, g, jsonify, render_template_string, request, session
from flask_login import LoginManager, UserMixin, login_user, logout_user, user_logged_in, user_logged_out

from flask_genesys_auth import (
    ConfigurationError,
    Decision,
    GenesysAuth,
    current_decision,
    current_user,
    logged_in,
    logged_out,
    session_revoked,
    unprotected,
)
from flask_genesys_auth.accounts.from_model import describe_by_convention
from flask_genesys_auth.chain.outcomes import Reason
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.browser import LOGIN
from flask_genesys_auth.web.hooks import decide
from flask_genesys_auth.web.runtime import runtime, state_of
from tests.saml.application import BreakableState

from .conftest import MakeApp, accounts_of

ANN = ("ann@acme.example", "ann's: password")
ANN_NAME, ANN_PASSWORD = ANN
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def add_login_views(app: Flask, auth: GenesysAuth | None = None) -> None:
    auth = auth or GenesysAuth()

    @app.post("/login")
    @unprotected
    def log_in() -> Any:
        decision = auth.log_in_with_password(request.form["user"], request.form["password"])
        return jsonify(authenticated=decision.authenticated, by=decision.authenticated_by)

    @app.post("/login-mine")
    @unprotected
    def log_in_mine() -> Any:
        user = accounts_of(app).get_by_name("acme", ANN_NAME)
        assert user is not None
        session["cart"] = "of somebody else"
        login_user(user)
        return jsonify(user=current_user.user_name, by=current_decision.authenticated_by)

    @app.post("/logout")
    @unprotected
    def log_out() -> Any:
        auth.logout()
        return jsonify(user=current_user.is_authenticated)

    @app.post("/logout-mine")
    def log_out_mine() -> str:
        logout_user()
        return "bye"

    @app.get("/fl")
    @unprotected
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def fl() -> str:
        return "in"


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    app = make_app()
    add_login_views(app)
    return app


def form(password: str = ANN_PASSWORD) -> dict[str, str]:
    return {"user": ANN_NAME, "password": password}


def test_a_login_form_uses_the_basic_steps(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/login", data=form("wrong")).get_json() == {"authenticated": False, "by": None}
    assert client.get("/private").status_code == 401
    assert client.post("/login", data=form()).get_json() == {"authenticated": True, "by": "web_services"}
    assert client.get("/private").get_json() == {"user": ANN_NAME, "by": "web_services"}
    assert client.post("/private").status_code == 200


def test_login_user_begins_a_login_session(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/login-mine").get_json() == {"user": ANN_NAME, "by": "application"}
    assert client.get("/private").get_json()["by"] == "application"
    with client.session_transaction() as browser:
        account = accounts_of(app).get_by_name("acme", ANN_NAME)
        assert account is not None
        assert browser["_user_id"] != account.get_id()
        assert len(browser["_user_id"]) >= 43  # 256 bits
        assert "cart" not in browser  # what the anonymous session held is dropped


def test_a_new_login_ends_the_previous_session(app: Flask) -> None:
    client = app.test_client()
    ids = []
    for _ in range(2):
        client.post("/login", data=form())
        with client.session_transaction() as browser:
            ids.append(browser["_user_id"])
    assert ids[0] != ids[1]
    stolen = app.test_client()
    with stolen.session_transaction() as browser:
        browser["_user_id"] = browser[LOGIN] = ids[0]
    assert stolen.get("/private").status_code == 401
    assert client.get("/private").status_code == 200


def test_logout_ends_the_login_session_on_the_server(app: Flask) -> None:
    for path in ("/logout", "/logout-mine"):
        client = app.test_client()
        client.post("/login", data=form())
        kept = client.get_cookie("session")
        assert kept is not None
        assert client.get("/private").status_code == 200
        assert client.post(path).status_code == 200
        assert client.get("/private").status_code == 401
        stolen = app.test_client()
        stolen.set_cookie("session", kept.value)
        assert stolen.get("/private").status_code == 401, path


def test_signals_of_both_packages_are_sent(app: Flask) -> None:
    heard: list[str] = []

    def note(name: str) -> Any:
        def listen(sender: Flask, **_: object) -> None:
            assert sender is app
            heard.append(name)

        return listen

    listeners = {
        "fl in": (user_logged_in, note("fl in")),
        "in": (logged_in, note("in")),
        "fl out": (user_logged_out, note("fl out")),
        "out": (logged_out, note("out")),
    }
    for signal, listener in listeners.values():
        signal.connect(listener, app)
    client = app.test_client()
    client.post("/login", data=form())
    client.post("/logout")
    assert sorted(heard) == ["fl in", "fl out", "in", "out"]


def test_header_and_anonymous_requests_set_no_cookie(make_app: MakeApp) -> None:
    app = make_app(flask_config={"PERMANENT_SESSION_LIFETIME": 60})
    add_login_views(app)

    @app.get("/permanent")
    @unprotected
    def permanent() -> str:
        session.permanent = True
        session["mine"] = "kept"
        return "ok"

    @app.get("/writes")
    def writes() -> str:
        session["mine"] = "changed"
        return "ok"

    client = app.test_client()
    for path in ("/private", "/who", "/open"):
        assert "Set-Cookie" not in client.get(path, auth=ANN).headers
        assert "Set-Cookie" not in client.get(path).headers
    client.get("/permanent")
    assert "Set-Cookie" not in client.get("/private", auth=ANN).headers
    assert "Set-Cookie" in client.get("/writes", auth=ANN).headers  # the view's own writes are kept


def test_a_wrong_header_overrides_a_good_cookie(app: Flask) -> None:
    client = app.test_client(user=ANN_NAME)
    assert client.get("/private").status_code == 200
    assert client.get("/private", auth=(ANN_NAME, "wrong")).status_code == 401
    assert client.get("/who", auth=(ANN_NAME, "wrong")).get_json()["user"] == ""


def test_flask_logins_decorator_refuses_as_ours_does(app: Flask) -> None:
    answer = app.test_client().get("/fl")
    assert answer.status_code == 401
    assert answer.get_json()["statusCode"] == 20
    assert app.test_client(user=ANN_NAME).get("/fl").data == b"in"


def test_disabling_an_account_ends_its_sessions_at_once(app: Flask) -> None:
    client = app.test_client(user=ANN_NAME)
    assert client.get("/private").status_code == 200
    account = accounts_of(app).get_by_name("acme", ANN_NAME)
    assert account is not None
    accounts_of(app).set_enabled(account.id, False)
    assert client.get("/private").status_code == 401
    accounts_of(app).set_enabled(account.id, True)
    assert client.get("/private").status_code == 200


def test_an_administrator_revokes_sessions(app: Flask) -> None:
    auth = GenesysAuth()
    heard: list[int] = []

    def listen(sender: Flask, count: int, **_: object) -> None:
        heard.append(count)

    session_revoked.connect(listen, app)
    client, other = app.test_client(user=ANN_NAME), app.test_client(user="sue@acme.example")
    account = accounts_of(app).get_by_name("acme", ANN_NAME)
    assert account is not None
    with app.app_context():
        assert auth.revoke(account_id=account.id) == 1
        with pytest.raises(ValueError, match="account_id"):
            auth.revoke()
    assert client.get("/private").status_code == 401
    assert other.get("/private").status_code == 200
    with app.app_context():
        assert auth.revoke(contact_center="acme") == 1
    assert other.get("/private").status_code == 401
    assert heard == [1, 1]


def test_unreadable_state_is_503_and_keeps_the_cookie(make_app: MakeApp) -> None:
    state = BreakableState("tests")
    app = make_app(state=state)
    client = app.test_client(user=ANN_NAME)
    state.broken, state.retry_after = True, 3
    answer = client.get("/private")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert "Set-Cookie" not in answer.headers
    asked = client.get("/who")
    assert asked.get_json()["user"] == ""
    assert "Set-Cookie" not in asked.headers
    assert client.get("/private", auth=ANN).status_code == 200  # headers need no state
    state.broken = False
    assert client.get("/private").status_code == 200


def test_a_login_that_cannot_be_stored_is_503(make_app: MakeApp) -> None:
    state = BreakableState("tests")
    app = make_app(state=state)
    add_login_views(app)
    client = app.test_client()
    state.broken = True
    assert client.post("/login", data=form()).status_code == 503
    assert client.get("/private").status_code == 401
    state.broken = False
    client.post("/login", data=form())
    state.broken = True
    assert client.post("/logout").status_code == 503


def test_a_login_form_from_another_site_is_refused(app: Flask) -> None:
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    client = app.test_client()
    for path in ("/login", "/login-mine"):
        assert client.post(path, data=form(), headers=foreign).status_code == 403
        assert client.get("/private").status_code == 401
    assert client.post("/login", data=form(), headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.get("/private").status_code == 200


def test_logout_and_timeout_show_a_page_before_login(make_app: MakeApp) -> None:
    app = make_app({"login_view": "open_"})
    add_login_views(app)
    navigate = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    client = app.test_client(user=ANN_NAME)
    assert client.get("/private", headers=navigate).status_code == 200
    client.post("/logout")
    page = client.get("/private", headers=navigate)
    assert page.status_code == 401
    assert b"/open" in page.data
    assert app.test_client().get("/private", headers=navigate).status_code == 302
    timed_out = app.test_client(user=ANN_NAME)
    runtime(app).sessions.revoke(contact_center="acme")
    assert timed_out.get("/private", headers=navigate).status_code == 401
    assert client.post("/login", data=form()).status_code == 200
    assert client.get("/private", headers=navigate).status_code == 200


class Own(UserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
    """An application's own user."""

    def __init__(self, name: str, *, active: bool = True) -> None:
        self.id = name
        self.user_name = name
        self._active = active

    @property
    def is_active(self) -> bool:
        return self._active


class OwnStore:
    """An application's own accounts, by Flask-Login's conventions."""

    def __init__(self) -> None:
        self.people = {"ann": Own("ann"), "off": Own("off", active=False)}

    def find(self, identity: Any) -> Own | None:
        return self.people.get(identity.subject)

    def get(self, account_id: str) -> Own | None:
        return self.people.get(account_id)


def own_app(make_app: MakeApp, prepare: Any = None, **settings: Any) -> Flask:
    app = make_app({"contact_centers": {"acme": {}}, **settings}, prepare=prepare, accounts=OwnStore())

    @app.get("/log-in/<name>")
    @unprotected
    def log_in(name: str) -> str:
        return str(login_user(runtime(app).accounts.get(name), remember=True))

    return app


def test_an_application_keeps_its_own_user_class(make_app: MakeApp) -> None:
    app = own_app(make_app)
    client = app.test_client()
    assert client.get("/log-in/off").data == b"False"
    assert client.get("/log-in/ann").data == b"True"
    assert client.get("/private").get_json() == {"user": "ann", "by": "application"}
    assert client.get_cookie("remember_token") is None
    ann = runtime(app).accounts.get("ann")
    assert ann is not None
    ann._active = False
    assert client.get("/private").status_code == 401


def test_an_applications_own_manager_keeps_its_remember_cookie(make_app: MakeApp) -> None:
    manager = LoginManager()
    app = own_app(make_app, prepare=manager.init_app)
    client = app.test_client()
    client.get("/log-in/ann")
    client.delete_cookie("session")
    assert client.get_cookie("remember_token") is not None
    assert client.get("/private").get_json()["user"] == "ann"
    client.set_cookie("remember_token", "garbage")
    assert client.get("/private").status_code == 401


def test_a_manager_with_loaders_needs_take_over_loaders(make_app: MakeApp) -> None:
    def with_loader(app: Flask) -> None:
        manager = LoginManager()
        manager.init_app(app)
        manager.user_loader(lambda account_id: Own("mallory"))

    with pytest.raises(ConfigurationError, match="take_over_loaders"):
        own_app(make_app, prepare=with_loader)
    app = own_app(make_app, prepare=with_loader, take_over_loaders=True)
    assert app.test_client().get("/private").status_code == 401
    assert app.test_client(user=Own("ann")).get("/private").get_json()["user"] == "ann"


def test_a_manager_attached_later_is_an_error(make_app: MakeApp) -> None:
    app = own_app(make_app)
    LoginManager().init_app(app)
    with pytest.raises(ConfigurationError, match="attach it before"):
        app.test_client().get("/open")


def test_login_user_needs_a_contact_center(make_app: MakeApp) -> None:
    app = make_app({"contact_centers": {"acme": {}, "globex": {}}}, accounts=OwnStore())

    @app.get("/log-in")
    @unprotected
    def log_in() -> str:
        login_user(runtime(app).accounts.get("ann"))
        return "in"

    with pytest.raises(ConfigurationError, match="contact center of this login is unknown"):
        app.test_client().get("/log-in")
    client = app.test_client()
    assert client.get("/log-in", headers={"ContactCenterId": "globex"}).data == b"in"
    assert client.get("/private").status_code == 200
    assert client.get("/private", headers={"ContactCenterId": "acme"}).status_code == 401


def test_the_test_client_reports_unsupported_uses(make_app: MakeApp) -> None:
    app = own_app(make_app)
    with pytest.raises(ConfigurationError, match="its own account store"):
        app.test_client(user="ann")
    two = make_app({"contact_centers": {"acme": {}, "globex": {}}}, accounts=OwnStore())
    with pytest.raises(ConfigurationError, match="name the contact center"):
        two.test_client(user=Own("ann"))
    assert two.test_client(user=Own("ann"), contact_center="globex").get("/private").status_code == 200


def test_user_of_an_outer_context_does_not_leak(app: Flask) -> None:
    with app.app_context():
        assert app.test_client().get("/private", auth=ANN).status_code == 200
        g._login_user = accounts_of(app).get_by_name("acme", ANN_NAME)
        assert app.test_client().get("/who").get_json()["user"] == ""


def test_store_reading_current_user_sees_an_anonymous_user(make_app: MakeApp) -> None:
    class Curious(OwnStore):
        def get(self, account_id: str) -> Own | None:
            assert not current_decision.authenticated
            return super().get(account_id)

    app = make_app({"contact_centers": {"acme": {}}}, accounts=Curious())
    client = app.test_client()
    with app.app_context():
        opaque = runtime(app).sessions.start(contact_center="acme", account_id="ann", step="application")
    with client.session_transaction() as browser:
        browser[LOGIN] = opaque
    assert client.get("/private").get_json()["user"] == "ann"


def test_a_malformed_remembered_id_is_anonymous(app: Flask) -> None:
    client = app.test_client()
    with client.session_transaction() as browser:
        browser[LOGIN] = ["not", "text"]
    assert client.get("/private").status_code == 401


# What we lean on in Flask-Login 0.6.3: if one of these fails, the seam needs a look.


@pytest.fixture
def bare(tmp_path: Path) -> Flask:
    app = Flask("bare", instance_path=str(tmp_path))
    app.secret_key = "bare"
    LoginManager().init_app(app)
    return app


def test_contract_manager_is_an_application_attribute(bare: Flask) -> None:
    assert isinstance(bare.login_manager, LoginManager)  # type: ignore[attr-defined]
    assert "login_manager" not in bare.extensions


def test_contract_current_user_loads_through_load_user(bare: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    manager = bare.login_manager  # type: ignore[attr-defined]

    def load() -> None:
        asked.append(True)
        manager._update_request_context_with_user(Own("ann"))

    monkeypatch.setattr(manager, "_load_user", load)
    with bare.test_request_context():
        assert flask_login.current_user.user_name == "ann"
        assert g._login_user.user_name == "ann"
    assert asked == [True]


def test_contract_logout_pops_the_id_before_its_signal(bare: Flask) -> None:
    seen: list[bool] = []

    def listen(sender: Flask, **_: object) -> None:
        seen.append("_user_id" in session)

    bare.login_manager.user_loader(lambda account_id: Own(account_id))  # type: ignore[attr-defined]
    user_logged_out.connect(listen, bare)
    with bare.test_request_context():
        login_user(Own("ann"))
        assert session["_user_id"] == "ann"
        logout_user()
    assert seen == [False]


def test_contract_login_writes_the_id_before_its_signal(bare: Flask) -> None:
    seen: list[str] = []

    def listen(sender: Flask, **_: object) -> None:
        seen.append(session["_user_id"])

    user_logged_in.connect(listen, bare)
    with bare.test_request_context():
        login_user(Own("ann"))
    assert seen == ["ann"]


def test_contract_a_session_overrides_a_header(bare: Flask) -> None:
    bare.login_manager.user_loader(lambda account_id: Own(account_id))  # type: ignore[attr-defined]
    bare.login_manager.request_loader(lambda request: Own("header"))  # type: ignore[attr-defined]
    bare.add_url_rule("/", view_func=lambda: flask_login.current_user.user_name)
    client = bare.test_client()
    assert client.get("/").data == b"header"
    with client.session_transaction() as browser:
        browser["_user_id"] = "cookie"
    assert client.get("/").data == b"cookie"


def test_contract_login_disabled_disables_flask_logins_decorator(bare: Flask) -> None:
    bare.login_manager.request_loader(lambda request: None)  # type: ignore[attr-defined]
    bare.add_url_rule("/", view_func=flask_login.login_required(lambda: "in"))
    assert bare.test_client().get("/").status_code == 401
    bare.config["LOGIN_DISABLED"] = True
    assert bare.test_client().get("/").status_code == 200


def test_decisions_are_values_of_one_request(app: Flask) -> None:
    with app.test_request_context("/", headers={"Authorization": "Basic !!!"}):
        decision = decide()
        assert isinstance(decision, Decision)
        assert decide() is decision
        assert decision.steps[2].reason is Reason.MALFORMED_CREDENTIALS
    with app.test_request_context("/"):
        assert not state_of(request).asked
        assert isinstance(app.test_client(), AuthClient)


def with_manager(app: Flask) -> None:
    LoginManager().init_app(app)


@pytest.mark.parametrize("path", ["/out", "/out-open", "/out-ours"])
def test_logout_ends_a_remembered_session(make_app: MakeApp, path: str) -> None:
    app = make_app(prepare=with_manager)

    @app.post("/in")
    @unprotected
    def log_in() -> str:
        login_user(accounts_of(app).get_by_name("acme", ANN[0]), remember=True)
        return "in"

    @app.post("/out", endpoint="out")
    @app.post("/out-open", endpoint="open-out")
    def log_out() -> str:
        logout_user()
        return "out"

    @app.post("/out-ours")
    def log_out_ours() -> str:
        GenesysAuth().logout()
        return "out"

    app.view_functions["open-out"] = unprotected(lambda: log_out())
    client = app.test_client()
    client.post("/in")
    kept = client.get_cookie("remember_token")
    assert kept is not None
    client.delete_cookie("session")  # the browser was closed
    assert client.get("/private").status_code == 200
    client.delete_cookie("session")
    assert client.post(path).status_code == 200
    stolen = app.test_client()
    stolen.set_cookie("remember_token", kept.value)
    assert stolen.get("/private").status_code == 401


def test_a_foreign_request_is_refused_at_each_read(make_app: MakeApp) -> None:
    app = make_app({"protect_by_default": False})

    @app.before_request
    def peek() -> None:
        with suppress(Exception):  # as careless as applications are
            _ = flask_login.current_user.is_authenticated

    @app.post("/pay")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def pay() -> str:
        return current_user.user_name

    client = app.test_client(user=ANN[0])
    assert client.post("/pay", headers=FOREIGN).status_code == 403
    assert client.post("/pay").text == ANN[0]


def test_an_invalid_remember_cookie_does_not_hide_credentials(make_app: MakeApp) -> None:
    app = make_app({"protect_by_default": False}, prepare=with_manager)

    @app.get("/fl")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def fl() -> str:
        return "in"

    client = app.test_client()
    client.set_cookie("remember_token", "garbage")
    assert client.get("/fl").status_code == 401
    assert client.get("/fl", auth=ANN).status_code == 200
    assert app.test_client().get("/fl", auth=ANN).status_code == 200


def test_error_templates_show_foreign_requests_as_anonymous(make_app: MakeApp) -> None:
    app = make_app()

    @app.errorhandler(404)
    def missing(_: Exception) -> tuple[str, int]:
        return render_template_string("{{ current_user.user_name or 'nobody' }}"), 404

    @app.post("/open-form")
    @unprotected
    def open_form() -> str:
        shown = render_template_string("{{ current_user.user_name or 'nobody' }}")
        return f"{shown}, {current_user.user_name}" if shown != "nobody" else shown

    client = app.test_client(user=ANN[0])
    foreign, own = (client.post("/nope", headers=headers) for headers in (FOREIGN, {}))
    assert (foreign.status_code, foreign.text) == (404, "nobody")
    assert (own.status_code, own.text) == (404, ANN[0])
    assert client.post("/open-form", headers=FOREIGN).text == "nobody"
    assert client.post("/open-form").text == f"{ANN[0]}, {ANN[0]}"
    assert client.post("/private", headers=FOREIGN).status_code in {403, 405}


def test_flask_login_reads_the_user_in_every_template() -> None:
    """This package replaces this context processor."""
    app = Flask("plain")
    LoginManager().init_app(app)
    assert flask_login.utils._user_context_processor in app.template_context_processors[None]


class Model:
    """An application's own user, by Flask-Login's conventions alone."""

    is_active = True

    def __init__(self, roles: object) -> None:
        if roles != "none at all":
            self.roles = roles

    def get_id(self) -> str:
        return "1"


@pytest.mark.parametrize(
    ("roles", "read"),
    [
        ("none at all", set()),
        (None, set()),
        ("ROLE_ADMIN", {"ROLE_ADMIN"}),
        ("ROLE_ADMIN, ROLE_AGENT", {"ROLE_ADMIN", "ROLE_AGENT"}),
        (["ROLE_ADMIN"], {"ROLE_ADMIN"}),
        ([SimpleNamespace(name="ROLE_ADMIN")], {"ROLE_ADMIN"}),
    ],
)
def test_model_roles_are_read_in_any_form(roles: object, read: set[str]) -> None:
    assert describe_by_convention(Model(roles)).roles == read
