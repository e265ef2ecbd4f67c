"""With cross_check, python3-saml must accept the response as well."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth.testing.saml_messages import Encryption, Message, SigningKey

from ..application import ANN, Browser, MakeApp, assert_refused


@pytest.fixture
def checked(make_app: MakeApp, key: SigningKey, other_key: SigningKey) -> Flask:
    pairs = [{"key": one.private_pem, "certificate": one.certificate_pem} for one in (other_key, key)]
    return make_app(cross_check=True, encryption_keys=pairs, okta={"allow_unsolicited": True})


def test_genuine_response_passes_the_cross_check(
    checked: Flask, make_app: MakeApp, key: SigningKey, other_key: SigningKey
) -> None:
    changes: list[dict[str, Any]] = [{}, {"sign_response": True}]
    changes += [{"between_signing": Encryption(one).assertion} for one in (key, other_key)]
    changes += [{"before_signing": Encryption(one).name_id} for one in (key, other_key)]
    for change in changes:
        browser = Browser(checked, key)
        browser.log_in(**change)
        assert browser.user == ANN
    plain = Browser(make_app(cross_check=True), key)
    plain.log_in()
    assert plain.user == ANN


def test_unsolicited_login_passes_the_cross_check(
    checked: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(checked, key)
    assert browser.answer(browser.unsolicited(), None).status_code == 303
    assert_refused(browser.answer(browser.unsolicited(audience="https://x.example"), None), caplog, "audience")


def test_cross_check_refusal_refuses_the_login(
    checked: Flask, app: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(to: Flask) -> Any:
        browser = Browser(to, key)
        request, relay_state = browser.begin()
        message: Message = browser.message(request)
        # The Response's Issuer is not signed here, and white space around it is none of its text to us.
        return browser.answer(message.but(response_issuer=f" {message.issuer} "), relay_state)

    assert answer(app).status_code == 303
    assert_refused(answer(checked), caplog, "cross_check")
    assert "python3-saml" in caplog.text
