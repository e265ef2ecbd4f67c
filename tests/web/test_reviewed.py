"""What a second pair of eyes found at the seam: each case beside the one that is accepted."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import flask_login
import pytest
from flask import Flask, Response, render_template_string
from flask.views import MethodView
from flask_login import LoginManager, login_user, logout_user

from flask_genesys_auth import ConfigurationError, GenesysAuth, current_user, roles_required, unprotected
from flask_genesys_auth.accounts.from_model import describe_by_convention

from .conftest import MakeApp, accounts_of

ANN = ("ann@acme.example", "ann's: password")
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


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


def test_views_that_log_in_or_out_are_private(make_app: MakeApp) -> None:
    app = make_app()

    @app.post("/bye")
    def bye() -> str:
        name = current_user.user_name
        logout_user()
        return name

    for answer in (app.test_client(user=ANN[0]).post("/bye"), app.test_client().get("/private", auth=ANN)):
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert "Cookie" in answer.headers["Vary"]
    assert "Cache-Control" not in app.test_client().get("/open").headers


def test_shared_caches_do_not_store_protected_files(make_app: MakeApp) -> None:
    app = make_app()

    def cached() -> Response:
        return Response("file", headers={"Cache-Control": "public, max-age=3600"})

    app.add_url_rule("/file", view_func=cached)
    app.add_url_rule("/logo", "logo", unprotected(lambda: cached()))
    protected: Any = app.test_client().get("/file", auth=ANN).cache_control
    assert (protected.public, protected.private, protected.max_age) == (False, True, 3600)
    open_: Any = app.test_client().get("/logo").cache_control
    assert (open_.public, open_.max_age) == (True, 3600)


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
    """Leaned on: its context processor is this one function."""
    app = Flask("plain")
    LoginManager().init_app(app)
    assert flask_login.utils._user_context_processor in app.template_context_processors[None]


@pytest.mark.parametrize(("host", "status"), [("portal.acme.example", 200), ("evil.example", 403)])
def test_a_host_header_makes_no_own_origin_beside_a_public_url(make_app: MakeApp, host: str, status: int) -> None:
    table = {"web_services": {}, "public_url": "https://acme.example", "hosts": ["portal.acme.example"]}
    app = make_app({"contact_centers": {"acme": table}})
    client = app.test_client()
    client.environ_base.pop("HTTP_SEC_FETCH_SITE")
    answer = client.post("/private", base_url=f"https://{host}", headers={"Origin": f"https://{host}"}, auth=ANN)
    assert answer.status_code == status
    named = client.post("/private", base_url=f"https://{host}", headers={"Origin": "https://acme.example"}, auth=ANN)
    assert named.status_code == 200


def test_without_public_url_the_requested_host_is_ours(make_app: MakeApp) -> None:
    client = make_app().test_client()
    client.environ_base.pop("HTTP_SEC_FETCH_SITE")
    own = {"Origin": "http://127.0.0.1:5000"}
    assert client.post("/private", base_url="http://127.0.0.1:5000", headers=own, auth=ANN).status_code == 200
    assert client.post("/private", base_url="http://localhost:5000", headers=own, auth=ANN).status_code == 403


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
def test_roles_are_read_in_any_form_of_a_model(roles: object, read: set[str]) -> None:
    assert describe_by_convention(Model(roles)).roles == read


def test_subclasses_inherit_roles_but_not_unprotected(make_app: MakeApp) -> None:
    app = make_app()

    class Shown(MethodView):
        def get(self) -> str:
            return "shown"

    class Open(Shown):
        pass

    class Supervised(Shown):
        pass

    unprotected(Open)
    roles_required("ROLE_SUPERVISOR")(Supervised)

    class More(Open):
        def post(self) -> str:
            return "changed"

    class Other(Supervised):
        pass

    for view in (Open, More, Other):
        app.add_url_rule(f"/{view.__name__}", view_func=view.as_view(view.__name__))
    client = app.test_client()
    assert client.get("/Open").text == "shown"
    assert client.get("/More").status_code == 401
    assert client.post("/More", auth=ANN).text == "changed"
    assert client.get("/Other", auth=ANN).status_code == 403
    assert client.get("/Other", auth=("sue@acme.example", "sue's password")).text == "shown"


def test_an_unknown_login_view_is_logged(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    navigation = {"Sec-Fetch-Mode": "navigate"}
    app = make_app({"login_view": "pages.lgoin", "unprotected_endpoints": ["healtz", "marked"]})
    client = app.test_client()
    for _ in range(2):
        answer = client.get("/private", headers=navigation)
        assert answer.status_code == 401
        assert "Please sign in" in answer.text
    told = [record.getMessage() for record in caplog.records if "has no endpoint" in record.getMessage()]
    assert told == [
        "configuration_warning: login_view: the application has no endpoint 'pages.lgoin'; users are not redirected",
        "configuration_warning: unprotected_endpoints: the application has no endpoint 'healtz'",
    ]
    good = make_app({"login_view": "open_"}).test_client().get("/private", headers=navigation)
    assert good.status_code == 302
    assert good.headers["Location"] == "/open?next=/private"


def test_all_problems_are_reported_at_once() -> None:
    app = Flask(__name__)
    app.config.update(LOGIN_DISABLED=True, GENESYS_AUTH={"contact_centers": {"acme": {"web_service": {}}}})
    with pytest.raises(ConfigurationError) as caught:
        GenesysAuth(app)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "SECRET_KEY",
        "LOGIN_DISABLED",
        "contact_centers.acme.web_service",
    ]
    app = Flask(__name__)
    app.secret_key = "k"
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {"web_services": {}}}, "state_url": "memory://"}
    with pytest.raises(ConfigurationError) as caught:
        GenesysAuth(app, extra_steps=["nowhere.at:All", "json:JSONDecoder", "json:Nothing"])
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("extra_steps: ") and "\n" not in problem for problem in caught.value.problems)


def test_a_contact_center_without_steps_is_logged(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    make_app()
    assert "no step is enabled" not in caplog.text
    make_app({"contact_centers": {"acme": {"web_services": {}}, "globex": {}}})
    assert "contact_centers.globex: no step is enabled" in caplog.text
    assert "contact_centers.acme" not in caplog.text
