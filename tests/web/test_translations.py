"""Texts of the pages: in one catalogue, in the requested language, escaped; and replaced templates."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, render_template
from flask.testing import FlaskClient
from jinja2 import meta, nodes
from markupsafe import escape
from werkzeug.test import TestResponse

import flask_genesys_auth.web
from flask_genesys_auth import GenesysAuth, roles_required, unprotected
from flask_genesys_auth.config.texts import ENGLISH, placeholders
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.testing.saml_messages import Message, SigningKey, generate_signing_key, provider_metadata
from flask_genesys_auth.web.browser import SIGNED_OUT
from flask_genesys_auth.web.runtime import runtime

from .conftest import MakeApp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).parents[2] / "docs" / "pages.md").read_text("utf-8")
TEMPLATES = Path(flask_genesys_auth.web.__file__).parent / "templates" / "genesys_auth"
GERMAN: dict[str, str] = tomllib.loads(re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)[0])["GENESYS_AUTH"]["texts"][
    "de"
]
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept-Language": "de-AT, en;q=0.5"}
ANN = "ann@acme.example"
URL = "https://portal.acme.example"
OUTCOMES = ("here", "local", "asked", "complete", "partial", "failed")


class Words(HTMLParser):
    """What can be read on a page, its title included, and what a screen reader says of it besides."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.language = ""
        self.feed(page)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append(" ".join(data.split()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [str(values[name]) for name in ("alt", "aria-label", "placeholder", "title") if name in values]
        if tag == "html":
            self.language = values.get("lang") or ""


def template_source(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


NAMES = sorted(path.name for path in TEMPLATES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_no_template_has_a_text_of_its_own(app: Flask, name: str) -> None:
    tree = app.jinja_env.parse(template_source(name))
    written = "".join(node.data for node in tree.find_all(nodes.TemplateData))
    assert [word for word in Words(written).found if word.strip(" ·")] == []


def test_literal_text_in_a_template_is_found(app: Flask) -> None:
    tree = app.jinja_env.parse('<p title="Sign in">{{ title }} now</p>')
    written = "".join(node.data for node in tree.find_all(nodes.TemplateData))
    assert Words(written).found == ["Sign in", "now"]


def test_german_translation_is_complete_and_has_no_extras() -> None:
    assert list(GERMAN) == list(ENGLISH)
    assert [name for name, text in GERMAN.items() if text == ENGLISH[name]] == ["status"]


def documented(row: str) -> set[tuple[str, str]]:
    return {
        (template, one)
        for template, cell in re.findall(row, PAGE, re.MULTILINE)
        for one in re.findall(r"`(\w+)`", cell)
    }


def test_documentation_lists_blocks_and_variables_of_each_template(app: Flask) -> None:
    blocks, variables = set(), set()
    for name in NAMES:
        tree = app.jinja_env.parse(template_source(name))
        blocks |= {(name, block.name) for block in tree.find_all(nodes.Block)}
        own = {node.target.name for node in tree.find_all(nodes.Assign)}  # type: ignore[attr-defined]  # a plain name
        variables |= {(name, one) for one in meta.find_undeclared_variables(tree) - own}
    everywhere = {"genesys_text", "genesys_language", "session", "url_for"}
    given = {
        (name, one) for name, one in variables if one not in everywhere and (name, one) != ("layout.html", "title")
    }
    assert documented(r"^\| `genesys_auth/([\w.]+)` \| [^|]+ \|([^|]*)\|$") == blocks
    assert documented(r"^\| `([\w.]+)` \| ([^|]+) \|[^|]+\|$") == given


def test_every_page_extends_the_replaceable_template() -> None:
    pages = set(NAMES) - {"layout.html", "base.html"}
    assert len(pages) == 6
    for name in pages:
        assert template_source(name).startswith('{% extends "genesys_auth/base.html" %}')


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return generate_signing_key("theirs")


@pytest.fixture
def bank(make_app: MakeApp, tmp_path: Path, key: SigningKey) -> Flask:
    """An application in German with two providers, one of them by POST."""
    metadata = tmp_path / "idp.xml"
    metadata.write_text(provider_metadata("https://idp.example", "https://idp.example/sso", (key.certificate,)))
    (tmp_path / "second.xml").write_text(metadata.read_text().replace("idp.example", "second.example"))
    app = make_app(
        {
            "public_url": URL,
            "languages": ["de", "en"],
            "texts": {"de": GERMAN},
            "contact_centers": {
                "acme": {
                    "web_services": {},
                    "saml": {
                        "identity_providers": {
                            "okta": {"metadata": str(metadata), "allow_unsolicited": True},
                            "adfs": {"metadata": str(tmp_path / "second.xml"), "binding": "post"},
                        }
                    },
                },
                "plain": {"hosts": ["plain.example"], "web_services": {}},
            },
            "default_contact_center": "acme",
        },
        flask_config={"PROPAGATE_EXCEPTIONS": False},
    )
    store = runtime(app).accounts
    ann = store.get_by_name("acme", ANN)  # type: ignore[attr-defined]  # the built-in store
    store.link(ann.id, "okta", ANN)  # type: ignore[attr-defined]  # likewise
    app.add_url_rule("/boss", "boss", roles_required("ROLE_BOSS")(lambda: "boss"))
    return app


def signed_out(app: Flask, outcome: str) -> TestResponse:
    client = app.test_client()
    with client.session_transaction() as session:
        session[SIGNED_OUT] = outcome
    return client.get("/saml/acme/signed-out", headers=NAVIGATION)


def unsolicited(app: Flask, key: SigningKey) -> TestResponse:
    """The question at the end of a login that began at the provider."""
    client = app.test_client()
    message = Message("https://idp.example", f"{URL}/saml/acme/acs", f"{URL}/saml/acme/metadata", None)
    posted = client.post("/saml/acme/acs", data={"SAMLResponse": message.encoded(key)})
    return client.get(posted.location.removeprefix(URL), headers=NAVIGATION)


def throttled(app: Flask) -> TestResponse:
    client = app.test_client()
    for _ in range(10):
        client.get("/private", auth=("nobody", "wrong"))
    return client.get("/private", auth=("nobody", "wrong"), headers=NAVIGATION)


def unreachable(app: Flask) -> TestResponse:
    runtime(app).accounts.close()  # type: ignore[attr-defined]  # the built-in store
    for file in Path(app.instance_path).glob("accounts*"):
        file.write_bytes(b"no database")
    return app.test_client(use_cookies=False).get("/private", auth=(ANN, "ann's: password"), headers=NAVIGATION)


def get(app: Flask, path: str, **more: Any) -> TestResponse:
    return app.test_client(**more).get(path, headers=NAVIGATION)


def foreign(app: Flask) -> TestResponse:
    headers = {**NAVIGATION, "Sec-Fetch-Site": "cross-site"}
    return app.test_client(user=ANN, contact_center="acme").post("/private", headers=headers)


VISITS: dict[str, Callable[[Flask, SigningKey], TestResponse]] = {
    "authentication_required": lambda app, _: app.test_client().get(
        "/private", headers=NAVIGATION, base_url="https://plain.example"
    ),
    "role_required": lambda app, _: get(app, "/boss", user=ANN, contact_center="acme"),
    "foreign_origin": lambda app, _: foreign(app),
    "unavailable": lambda app, _: unreachable(app),
    "throttled": lambda app, _: throttled(app),
    "saml_failed": lambda app, _: get(app, "/saml/acme/complete?code=x"),
    "saml_logout_failed": lambda app, _: get(app, "/saml/acme/slo"),
    "choose": lambda app, _: get(app, "/saml/acme/choose"),
    "signing_in": lambda app, _: get(app, "/saml/acme/login?idp=adfs"),
    "continue": unsolicited,
    "logout": lambda app, _: get(app, "/saml/acme/logout", user=ANN, contact_center="acme"),
    "signed_out_nobody": lambda app, _: get(app, "/saml/acme/signed-out"),
}
# A default binds each outcome: a closure would find the last one only.
VISITS |= {f"signed_out_{one}": lambda app, _, one=one: signed_out(app, one) for one in OUTCOMES}  # type: ignore[misc]
NOT_IN_THE_TEXTS = {ANN, "okta", "adfs", "·", "?", "."}


def in_german(word: str) -> bool:
    """Return whether what is read is a text of the catalogue, or a part of one around what is put in."""
    parts = {part.strip() for text in GERMAN.values() for part in re.split(r"\{\w+\}", text)}
    whole = {re.sub(r"\\\{\w+\\\}", ".+", re.escape(text)) for text in GERMAN.values()}
    word = word.removeprefix("okta").strip(" ·")
    return word in parts or any(re.fullmatch(one, word) for one in whole)


@pytest.mark.parametrize("visit", VISITS)
def test_every_page_is_german_from_top_to_bottom(bank: Flask, key: SigningKey, visit: str) -> None:
    answer = VISITS[visit](bank, key)
    words = Words(answer.text)
    assert words.language == "de", answer.text
    title = GERMAN[f"{visit}_title"].replace("{name}", ANN)
    assert words.found.count(title) == 2, words.found  # the title and the heading
    reference = r"[0-9a-f]{8}"
    foreign_words = [
        word
        for word in words.found
        if word not in NOT_IN_THE_TEXTS and not re.fullmatch(reference, word) and not in_german(word)
    ]
    assert foreign_words == []


@pytest.mark.parametrize("outcome", [*OUTCOMES, "nobody"])
def test_only_signed_out_users_see_sign_in_again(bank: Flask, key: SigningKey, outcome: str) -> None:
    words = Words(VISITS[f"signed_out_{outcome}"](bank, key).text).found
    wanted = GERMAN["sign_in" if outcome == "nobody" else "sign_in_again"]
    assert {GERMAN["sign_in"], GERMAN["sign_in_again"]} & set(words) == {wanted}


def test_every_page_has_an_icon_its_policy_allows(bank: Flask) -> None:
    page = bank.test_client().get("/saml/acme/choose", headers=NAVIGATION)
    assert "img-src 'self'" in page.headers["Content-Security-Policy"]
    (address,) = re.findall(r'<link rel="icon" type="image/svg\+xml" href="([^"]+)">', page.text)
    with bank.test_client().get(address) as icon:
        assert (icon.status_code, icon.mimetype) == (200, "image/svg+xml")


def test_a_refused_origin_is_answered_in_any_language(bank: Flask, key: SigningKey) -> None:
    answer = VISITS["foreign_origin"](bank, key)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("de-CH, en;q=0.9", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("de;q=0.1, en;q=0.2", "en"),
        ("de;q=0, en;q=0.1", "en"),
        ("fr, en", "en"),
        ("fr", "de"),
        ("*", "de"),
        ("", "de"),
        ("x" * 5000, "de"),
    ],
)
def test_browsers_get_their_language_or_the_first_one(bank: Flask, asked: str, language: str) -> None:
    answer = bank.test_client().get("/saml/acme/choose", headers={"Accept-Language": asked})
    assert Words(answer.text).language == language
    assert str((GERMAN if language == "de" else ENGLISH)["choose_advice"]) in answer.text


class Locale:
    """As Babel's: no text, but written as one."""

    def __str__(self) -> str:
        return "de_DE"


@pytest.mark.parametrize(
    ("chosen", "language"), [("de", "de"), (Locale(), "de"), ("en-US", "en"), (None, "en"), ("", "en"), ("fr", "en")]
)
def test_the_application_may_choose_the_language(make_app: MakeApp, chosen: object, language: str) -> None:
    app = make_app({"texts": {"de": GERMAN}}, language=lambda: chosen)
    answer = app.test_client().get("/private", headers={"Sec-Fetch-Mode": "navigate", "Accept-Language": "en"})
    assert Words(answer.text).language == language


def test_a_single_language_is_used_for_all(make_app: MakeApp) -> None:
    app = make_app({"languages": ["de"], "texts": {"de": GERMAN}})
    answer = app.test_client().get("/private", headers={"Sec-Fetch-Mode": "navigate", "Accept-Language": "en"})
    assert GERMAN["authentication_required_advice"] in answer.text


def test_texts_are_text_and_never_markup(make_app: MakeApp) -> None:
    words = "<b>Hello</b> & {{goodbye}}"
    app = make_app({"texts": {"en": {"authentication_required_advice": words}}})
    answer = app.test_client().get("/private", headers={"Sec-Fetch-Mode": "navigate"})
    assert "&lt;b&gt;Hello&lt;/b&gt; &amp; {goodbye}" in answer.text
    with app.test_request_context():
        text = runtime(app).texts.text
        assert text("continue_title", name="<i>{x}</i>") == "Continue as &lt;i&gt;{x}&lt;/i&gt;?"
        assert text("status", status=escape("a") + "b") == "Status ab"


def test_missing_texts_are_english_and_logged(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app({"texts": {"de": {"sign_in": "Anmelden"}, "en": {"sign_in": "Log in"}}})
    (told,) = [record.getMessage() for record in caplog.records if "texts." in record.getMessage()]
    assert told.startswith("configuration_warning: texts.de: ")
    assert "authentication_required_title" in told
    assert "sign_in," not in told
    answer = app.test_client().get("/private", headers=NAVIGATION)
    assert ENGLISH["authentication_required_title"] in answer.text


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"texts": "de"}, "texts: must be a table, not text"),
        ({"texts": {"de": []}}, "texts.de: must be a table, not a list"),
        ({"texts": {"deutsch!": {}}}, 'texts.deutsch!: must be a language tag such as "de" or "de-CH"'),
        ({"texts": {"de": {}, "DE": {}}}, "texts.DE: is set twice: remove one of the two"),
        ({"texts": {"de": {"sign_inn": "x"}}}, "texts.de.sign_inn: is not a known text; did you mean sign_in?"),
        ({"texts": {"de": {"sign_in": "x", "SIGN_IN": "y"}}}, "texts.de.SIGN_IN: is set twice: remove one of the two"),
        ({"texts": {"de": {"sign_in": ""}}}, "texts.de.sign_in: must not be empty"),
        ({"texts": {"de": {"sign_in": 7}}}, "texts.de.sign_in: must be text, not a number: put it in quotes"),
        ({"texts": {"de": {"status": "Status"}}}, "must have {status}, as the English text has"),
        ({"texts": {"de": {"sign_in": "{name}"}}}, "must have no names in braces, as the English text has"),
        ({"texts": {"de": {"continue_advice": "{name}"}}}, "must have {name} and {provider}, as"),
        (
            {"texts": {"de": {"status": "{status"}}},
            "has a brace without its counterpart: write {{ or }} for a literal brace",
        ),
        (
            {"texts": {"de": {"status": "{status.real}"}}},
            "must have only plain names in braces, such as {name}",
        ),
        ({"texts": {"de": {"status": "{status!r}"}}}, "must have only plain names in braces, such as {name}"),
        (
            {"texts": {"de": {"status": "{status:>9999999999}"}}},
            "must have only plain names in braces, such as {name}",
        ),
        ({"texts": {"de": {"status": "{}"}}}, "must have only plain names in braces, such as {name}"),
        ({"languages": ["fr"]}, "languages.0: has no texts: add them in texts.fr, or remove fr"),
        ({"languages": ["e"]}, 'languages.0: must be a language tag such as "de" or "de-CH"'),
    ],
)
def test_invalid_translations_are_refused(make_app: MakeApp, settings: dict[str, Any], finding: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(settings)
    assert finding in str(caught.value)


def test_texts_can_come_from_the_environment(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_GENESYS_AUTH__TEXTS__DE__AUTHENTICATION_REQUIRED_TITLE", "Bitte anmelden")
    app = make_app(prepare=lambda app: app.config.from_prefixed_env() and None)
    assert "Bitte anmelden" in app.test_client().get("/private", headers=NAVIGATION).text


def test_english_texts_have_only_plain_placeholders() -> None:
    assert {one for text in ENGLISH.values() for one in placeholders(text)} == {
        "name",
        "provider",
        "status",
        "reference",
    }


def put(folder: Path, name: str, text: str) -> None:
    path = folder / "genesys_auth" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def portal(folder: Path) -> FlaskClient:
    """A client of an application with its own templates."""
    app = Flask("portal", instance_path=str(folder), template_folder=str(folder))
    app.config.update(TESTING=True, SECRET_KEY="k" * 32)
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {"web_services": {}}}}
    app.add_url_rule("/", "home", lambda: "home")
    app.add_url_rule("/about", "about", unprotected(lambda: render_template("about.html")))
    GenesysAuth(app)
    return app.test_client()


def test_the_documented_layout_is_the_real_one(tmp_path: Path) -> None:
    before = portal(tmp_path).get("/", headers=NAVIGATION)
    assert "acme.css" not in before.text
    (frame,) = re.findall(r"```jinja\n(.+?)```", PAGE, re.DOTALL)
    put(tmp_path, "base.html", frame)
    after = portal(tmp_path).get("/", headers=NAVIGATION)
    assert after.status_code == before.status_code == 401
    assert after.text.index("genesys_auth.css") < after.text.index("/static/acme.css") < after.text.index("<body")
    assert after.text.index("acme.svg") < after.text.index("<main")
    assert ENGLISH["authentication_required_title"] in after.text


def test_an_applications_template_replaces_ours(tmp_path: Path) -> None:
    put(tmp_path, "refusal.html", "Nothing to see: {{ status }} {{ title }} {{ genesys_text('sign_in') }}")
    (tmp_path / "about.html").write_text("{{ genesys_language() }} {{ genesys_text('sign_out') }}", "utf-8")
    client = portal(tmp_path)
    assert client.get("/", headers=NAVIGATION).text == "Nothing to see: 401 Please sign in Sign in"
    assert client.get("/about").text == "en Sign out"
