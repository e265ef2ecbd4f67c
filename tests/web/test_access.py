"""Access to endpoints: marks on views, classes and blueprints, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View

from flask_genesys_auth import ConfigurationError, login_required, protected, roles_required, unprotected
from flask_genesys_auth.web.access import policy_of

from .conftest import MakeApp

ANN = ("ann@acme.example", "ann's: password")
SUE = ("sue@acme.example", "sue's password")


def test_endpoints_are_protected_by_default(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/private").status_code == 401
    assert client.get("/private", auth=ANN).status_code == 200
    assert client.get("/marked").status_code == 401
    assert client.get("/marked", auth=ANN).status_code == 200
    assert client.get("/open").status_code == 200


def test_roles_are_checked_after_authentication(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/supervisors").status_code == 401
    assert client.get("/supervisors", auth=ANN).status_code == 403
    assert client.get("/supervisors", auth=SUE).status_code == 200


def test_unprotected_returns_the_same_function() -> None:
    def view() -> str:
        return ""

    assert unprotected(view) is view
    assert login_required is protected


@pytest.mark.parametrize("above", [True, False])
def test_marks_work_above_and_below_route(make_app: MakeApp, above: bool) -> None:
    app = make_app({"protect_by_default": False})

    def place(rule: str, mark: Callable[[Any], Any], view: Callable[..., Any]) -> None:
        route = app.get(rule, endpoint=rule)
        if above:
            mark(route(view))
        else:
            route(mark(view))

    async def answer_async() -> str:
        return "yes"

    def answer() -> str:
        return "yes"

    def supervised() -> str:
        return "yes"

    place("/protected", protected, answer)
    place("/async", protected, answer_async)
    place("/roles", roles_required("ROLE_SUPERVISOR"), supervised)
    client = app.test_client()
    for rule, good, bad in (("/protected", ANN, None), ("/async", ANN, None), ("/roles", SUE, ANN)):
        assert client.get(rule, auth=good).status_code == 200, rule
        assert client.get(rule, auth=bad).status_code == (403 if bad else 401), rule
    assert client.get("/private").status_code == 200  # unmarked, and protect_by_default is off


def test_a_mark_hidden_by_a_wrapper_still_refuses(make_app: MakeApp) -> None:
    def careless(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: view()

    app = make_app({"protect_by_default": False})

    @protected
    def inner() -> str:
        return "yes"

    @roles_required("ROLE_SUPERVISOR")
    async def supervised() -> str:
        return "yes"

    app.add_url_rule("/hidden", "hidden", careless(inner))
    app.add_url_rule("/hidden-roles", "hidden-roles", app.ensure_sync(careless(app.ensure_sync(supervised))))
    client = app.test_client()
    assert client.get("/hidden").status_code == 401
    assert client.get("/hidden", auth=ANN).status_code == 200
    assert client.get("/hidden-roles", auth=ANN).status_code == 403
    assert client.get("/hidden-roles", auth=SUE).status_code == 200


def test_roles_of_decorators_and_blueprints_add_up(make_app: MakeApp) -> None:
    app = make_app()
    desk = roles_required("ROLE_AGENT")(Blueprint("desk", __name__, url_prefix="/desk"))

    @desk.get("/")
    def any_agent() -> str:
        return "yes"

    @desk.get("/lead")
    @roles_required("ROLE_SUPERVISOR")
    @roles_required("ROLE_LEAD")
    def lead() -> str:
        return "yes"

    app.register_blueprint(desk)
    assert app.test_client().get("/desk/", auth=ANN).status_code == 200
    assert policy_of(app, "desk.lead").roles == {"ROLE_AGENT", "ROLE_SUPERVISOR", "ROLE_LEAD"}
    assert app.test_client().get("/desk/lead", auth=SUE).status_code == 403


def test_unprotected_blueprints_include_nested_ones_without_marks(make_app: MakeApp) -> None:
    app = make_app()
    outer = unprotected(Blueprint("outer", __name__, url_prefix="/outer"))
    inner = Blueprint("inner", __name__, url_prefix="/inner")
    closed = protected(Blueprint("closed", __name__, url_prefix="/closed"))

    @outer.get("/secret")
    @protected
    def secret() -> str:
        return "secret"

    for blueprint in (outer, inner, closed):
        blueprint.add_url_rule("/", "home", lambda: "home")
    outer.register_blueprint(inner)
    outer.register_blueprint(closed)
    app.register_blueprint(outer)
    client = app.test_client()
    assert client.get("/outer/").status_code == 200
    assert client.get("/outer/inner/").status_code == 200
    assert client.get("/outer/closed/").status_code == 401
    assert client.get("/outer/closed/", auth=ANN).status_code == 200
    assert client.get("/outer/secret").status_code == 401
    assert client.get("/outer/secret", auth=ANN).status_code == 200


def test_view_classes_and_their_methods_are_marked(make_app: MakeApp) -> None:
    app = make_app()

    @unprotected
    class Public(View):
        def dispatch_request(self) -> str:
            return "public"

    class Closed(Public):
        pass

    protected_again = roles_required("ROLE_SUPERVISOR")(Closed)

    class Mixed(MethodView):
        @unprotected
        def get(self) -> str:
            return "get"

        def post(self) -> str:
            return "post"

        @roles_required("ROLE_SUPERVISOR")
        def put(self) -> str:
            return "put"

    assert protected_again is Closed
    app.add_url_rule("/public", view_func=Public.as_view("public"))
    app.add_url_rule("/closed", view_func=Closed.as_view("closed"))
    app.add_url_rule("/mixed", view_func=Mixed.as_view("mixed"))
    client = app.test_client()
    assert client.get("/public").status_code == 200
    assert client.get("/closed", auth=ANN).status_code == 403
    assert client.get("/closed", auth=SUE).status_code == 200
    assert client.get("/mixed").status_code == 200
    assert client.head("/mixed").status_code == 200
    assert client.post("/mixed").status_code == 401
    assert client.post("/mixed", auth=ANN).status_code == 200
    assert client.put("/mixed", auth=ANN).status_code == 403
    assert client.put("/mixed", auth=SUE).status_code == 200


def test_contradicting_marks_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="both protected and unprotected"):

        @protected
        @unprotected
        def view() -> str:
            return ""


@pytest.mark.parametrize("target", [7, "view", object()])
def test_only_views_can_be_marked(target: object) -> None:
    with pytest.raises(ConfigurationError, match="is not a view"):
        unprotected(target)  # type: ignore[type-var]  # no view


def test_roles_required_rejects_invalid_arguments() -> None:
    with pytest.raises(ConfigurationError, match="takes the names"):
        roles_required()
    with pytest.raises(ConfigurationError, match="takes the names"):
        roles_required(lambda: "")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is not a view"):
        protected(int)
    with pytest.raises(ConfigurationError, match="cannot be marked"):
        unprotected(print)


def test_static_files_are_unprotected(app: Flask) -> None:
    answer = app.test_client().get("/genesys-auth/static/genesys_auth.css")
    assert answer.status_code == 200
    assert "Cookie" not in answer.headers.get("Vary", "")
    assert str(policy_of(app, "static")) == "unprotected"
    answer.close()


def test_a_view_named_static_is_protected(make_app: MakeApp) -> None:
    app = make_app()
    fake = Blueprint("fake", __name__, url_prefix="/fake")
    fake.add_url_rule("/", "static", lambda: "mine")
    app.register_blueprint(fake)
    assert app.test_client().get("/fake/").status_code == 401
    assert app.test_client().get("/fake/", auth=ANN).status_code == 200


def test_unprotected_endpoints_can_be_configured(make_app: MakeApp) -> None:
    app = make_app({"unprotected_endpoints": ["private", "marked"]})
    client = app.test_client()
    assert client.get("/private").status_code == 200
    assert client.get("/marked").status_code == 401  # what the view says is nearer
    assert policy_of(app, "private").source == "configuration"


def test_flask_answers_404_405_and_automatic_options(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/nowhere").status_code == 404
    assert client.delete("/private").status_code == 405
    assert client.options("/private").status_code == 200
    assert client.options("/private").data == b""


def test_a_view_that_handles_options_itself_is_protected(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/options", methods=["OPTIONS", "GET"])
    def options() -> str:
        return "mine"

    client = app.test_client()
    assert client.options("/options").status_code == 401
    assert client.options("/options", auth=ANN).data == b"mine"


def test_policies_have_a_readable_text(app: Flask) -> None:
    assert str(policy_of(app, "supervisors")) == "protected (ROLE_SUPERVISOR)"
    assert str(policy_of(app, "private")) == "protected"
    assert str(policy_of(app, "open_")) == "unprotected"
    with pytest.raises(KeyError):
        policy_of(app, "no-such-endpoint")


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
