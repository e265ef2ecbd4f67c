"""Changes outside the signed content are accepted; the user stays the same."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth.saml.documents import XENC
from flask_genesys_auth.testing.saml_messages import Encryption, SigningKey, generate_signing_key

from ..application import ANN, Browser, MakeApp, assert_refused


def _with_inclusion(data: bytes) -> bytes:
    inclusion = b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    extensions = b"<samlp:Extensions>" + inclusion + b"</samlp:Extensions>"
    return data.replace(b"<samlp:Status>", extensions + b"<samlp:Status>", 1)


ODDITIES: dict[str, Callable[[bytes], bytes]] = {
    "an XInclude, which nothing here carries out": _with_inclusion,
    "a CDATA section around the same text": lambda data: data.replace(
        ANN.encode(), b"<![CDATA[" + ANN.encode() + b"]]>", 1
    ),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "XML 1.1": lambda data: b'<?xml version="1.1"?>' + data,
    "white space behind the root": lambda data: data + b" \n",
}


def post(browser: Browser, message: bytes, relay_state: str, **more: str) -> TestResponse:
    fields = {"SAMLResponse": base64.b64encode(message).decode(), "RelayState": relay_state, **more}
    stranger = browser.client.application.test_client(use_cookies=False)
    return stranger.post(f"{browser.base}/acs", base_url=browser.url, data=fields)


def follow(browser: Browser, answer: TestResponse) -> None:
    assert answer.status_code == 303
    browser.get(answer.headers["Location"].removeprefix(browser.url))


@pytest.mark.parametrize("change", ODDITIES.values(), ids=ODDITIES)
def test_harmless_change_keeps_the_signed_user(browser: Browser, change: Callable[[bytes], bytes]) -> None:
    request, relay_state = browser.begin()
    genuine = base64.b64decode(browser.message(request).encoded(browser.key))
    odd = change(genuine)
    assert odd != genuine
    follow(browser, post(browser, odd, relay_state))
    assert browser.user == ANN


@pytest.mark.parametrize("change", ODDITIES.values(), ids=ODDITIES)
def test_harmless_change_around_forged_name_is_refused(
    browser: Browser, change: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    request, relay_state = browser.begin()
    genuine = base64.b64decode(browser.message(request).encoded(browser.key))
    forged = change(genuine).replace(ANN.encode(), b"bob@acme.example")
    answer = post(browser, forged, relay_state)
    assert_refused(answer, caplog, "bad_signature")
    assert browser.user == ""
    follow(browser, post(browser, genuine, relay_state))
    assert browser.user == ANN


def test_second_message_is_never_read(browser: Browser, other_key: SigningKey) -> None:
    request, relay_state = browser.begin()
    message = browser.message(request)
    forged = message.but(name_id="bob@acme.example").encoded(other_key)
    fields = {"SAMLResponse": message.encoded(browser.key), "RelayState": relay_state, "SAMLRequest": forged}
    stranger = browser.client.application.test_client(use_cookies=False)
    answer = stranger.post(
        f"{browser.base}/acs", base_url=browser.url, data=fields, query_string={"SAMLResponse": forged}
    )
    follow(browser, answer)
    assert browser.user == ANN


def test_session_key_of_another_recipient_is_ignored(make_app: MakeApp, key: SigningKey) -> None:
    """Recipient is a hint (xmlenc-core 3.5.1): what opens the message is the key, whatever stands there."""
    ours = generate_signing_key("ours")
    app = make_app(encryption_keys=[{"key": ours.private_pem, "certificate": ours.certificate_pem}])

    def name_recipient(response: etree._Element) -> None:
        Encryption(ours).assertion(response)
        encrypted = response.find(f".//{{{XENC}}}EncryptedKey")
        assert encrypted is not None
        encrypted.set("Recipient", "https://else.example/metadata")

    browser = Browser(app, key)
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, between_signing=name_recipient), relay_state)
    follow(browser, answer)
    assert browser.user == ANN
