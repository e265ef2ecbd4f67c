"""Each attack in every form of a login gets one public answer; the reason is in the log."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key

from .application import ANN, Browser, assert_refused, making
from .attacks import ATTACKS, FORMS, Attack, Form, Keys

PAGE = (Path(__file__).parents[2] / "docs" / "saml-attacks.md").read_text("utf-8")


@pytest.fixture(scope="module")
def keys(key: SigningKey, other_key: SigningKey) -> Keys:
    return Keys(key, other_key, generate_signing_key("ours"))


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[dict[str, Flask]]:
    """One application for each binding."""
    own = {"key": keys.ours.private_pem, "certificate": keys.ours.certificate_pem}
    with making(tmp_path_factory.mktemp("attacks"), keys.provider) as make:
        yield {
            binding: make(okta={"binding": binding, "email_domains": ["acme.example"]}, encryption_keys=[own])
            for binding in ("redirect", "post")
        }


def begin(browser: Browser, form: Form) -> tuple[etree._Element, str]:
    """Begin a login by the form's binding; return the AuthnRequest and RelayState."""
    if form.binding == "redirect":
        return browser.begin()
    page = browser.get(f"{browser.base}/login?next=/private")
    assert page.status_code == 200
    fields = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text)
    }
    return etree.fromstring(base64.b64decode(fields["SAMLRequest"])), fields["RelayState"]


def post(browser: Browser, fields: dict[str, str]) -> TestResponse:
    return browser.client.application.test_client(use_cookies=False).post(
        f"{browser.base}/acs", base_url=browser.url, data=fields
    )


def public(answer: TestResponse) -> tuple[str, str, list[tuple[str, str]]]:
    """All that an attacker sees of an answer, but for the reference and its length."""
    headers = [(name, value) for name, value in answer.headers if name not in {"Date", "Content-Length"}]
    return answer.status, re.sub(r"\b[0-9a-f]{8}\b", "reference", answer.text), headers


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_is_refused_and_genuine_message_accepted(
    apps: dict[str, Flask], keys: Keys, attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    forms = [form for form in FORMS if attack.possible(form)]
    assert forms
    seen = set()
    for form in forms:
        browser = Browser(apps[form.binding], keys.provider)
        request, relay_state = begin(browser, form)
        message = browser.message(request, sign_response=form.both)
        genuine = {
            "SAMLResponse": keys.sealed(message, form.seal).encoded(keys.provider),
            "RelayState": relay_state,
        }
        refused = post(browser, {**genuine, **attack.make(message, keys, form)})
        reason = vars(caplog.records[-1])["genesys_auth"]["reason"]
        assert reason in attack.reasons, f"{form}: {caplog.records[-1].getMessage()}"
        seen.add(reason)
        assert_refused(refused, caplog, reason)
        assert public(refused) == public(post(browser, {"SAMLResponse": "eA==", "RelayState": relay_state})), str(form)
        assert "Set-Cookie" not in refused.headers
        assert browser.user == ""
        accepted = post(browser, genuine)
        assert accepted.status_code == 303, f"{form}: {caplog.records[-1].getMessage()}"
        browser.get(accepted.headers["Location"].removeprefix(browser.url))
        assert browser.user == ANN
    assert attack.reasons[0] in seen, "the page says so"


def test_names_of_attacks_are_unique() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) > 80


def test_the_page_lists_these_attacks_with_their_reasons() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| `([a-z_]+)` \|$", PAGE, re.MULTILINE)
    assert rows == [(attack.name, attack.reasons[0]) for attack in ATTACKS]
