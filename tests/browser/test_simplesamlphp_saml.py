"""SAML with SimpleSAMLphp in Chromium: both bindings, encryption, single logout from both sides, roll-over of keys.

What SimpleSAMLphp 1.19 does not do is shown with the development identity provider: it encrypts with AES-CBC only,
and keeps its session in a Lax cookie that no form of another site brings along, so that single logout by POST works
with it on the same site only (over https it would be ``SameSite=None``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key

from ..saml.provider_site import Clock, keys_after_looking
from ..saml.simplesaml import SimpleSamlPhp
from .chromium import Browser
from .real_desk import COOKIE, PROVIDER, Desk, by_post_only, pair, signing

HOUR = 3601
ANN = SimpleSamlPhp.name_id
HELLO = f"Hello {ANN}"


@pytest.fixture(scope="module")
def ours() -> SigningKey:
    return generate_signing_key("ours")


@pytest.fixture(scope="module")
def ours_next() -> SigningKey:
    return generate_signing_key("ours, next")


@pytest.fixture
def idp(simplesamlphp: SimpleSamlPhp) -> Iterator[SimpleSamlPhp]:
    """SimpleSAMLphp, which is as it was at first afterwards."""
    yield simplesamlphp
    simplesamlphp.be()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Ours, on ``localhost``: SimpleSAMLphp is on 127.0.0.1, which is another site."""
    made = Desk(tmp_path / "desk")
    yield made
    made.close()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Desk]:
    """Ours, on the provider's own site."""
    made = Desk(tmp_path / "neighbour", host="127.0.0.1")
    yield made
    made.close()


def introduce(desk: Desk, idp: SimpleSamlPhp, saml: dict[str, Any] | None = None, **provider: Any) -> None:
    """Open the desk with one contact center, and let both sides know each other's metadata."""
    table = {"identity_providers": {PROVIDER: {"metadata": idp.metadata_url, **provider}}, **(saml or {})}
    desk.open(ANN, table)
    idp.trust_metadata(desk.metadata())


def log_in(browser: Browser, desk: Desk, idp: SimpleSamlPhp, heading: str = HELLO) -> str:
    """Log in where the provider asks for the password; return the session's cookie."""
    browser.open(desk.url + "/private?x=1")
    assert browser.url.startswith(idp.url), browser.text
    browser.fill(username=idp.user_name, password=idp.password)
    browser.submit("password")
    browser.wait_for(heading)
    if heading == HELLO:
        assert browser.url == desk.url + "/private?x=1"
    return browser.cookie(COOKIE)


def press_sign_out(browser: Browser, desk: Desk) -> None:
    browser.open(desk.address("logout"))
    browser.press("Sign out")


@pytest.mark.parametrize("binding", ["redirect", "post"])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_a_request_by_either_binding_logs_in(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey, binding: str, signed: bool
) -> None:
    introduce(desk, idp, signing(ours) if signed else {}, binding=binding)
    cookie = log_in(browser, desk, idp)
    assert desk.status_with(cookie) == 200


@pytest.mark.parametrize("binding", ["redirect", "post"])
def test_provider_refuses_request_signed_with_unknown_key(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey, ours_next: SigningKey, binding: str
) -> None:
    # The control of the test above: SimpleSAMLphp, told by our metadata that we sign, does look at the signature.
    introduce(desk, idp, signing(ours), binding=binding)
    known = desk.metadata()
    introduce(desk, idp, signing(ours_next), binding=binding)
    idp.trust_metadata(known)
    browser.open(desk.url + "/private")
    browser.wait_for_text("Caused by: Exception: Unable to validate")
    browser.complaints()


@pytest.mark.parametrize("what", ["assertion", "nameid"])
def test_encrypted_login_requires_allow_cbc(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey, what: str
) -> None:
    idp.be(**{f"{what}.encryption": True})
    keys = {"encryption_keys": [pair(ours)]}
    introduce(desk, idp, keys)
    log_in(browser, desk, idp, "Signing in did not work")
    # AES-CBC is all that SimpleSAMLphp has.
    introduce(desk, idp, keys, allow_cbc=True)
    browser.open(desk.url + "/private")
    browser.wait_for(HELLO)


def test_logging_out_here_ends_both_sessions_for_good(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey
) -> None:
    introduce(desk, idp, signing(ours))
    cookie = log_in(browser, desk, idp)
    assert desk.status_with(cookie) == 200
    press_sign_out(browser, desk)
    browser.wait_for("You are signed out")
    assert browser.url == desk.address("signed-out")
    assert "your identity provider has confirmed" in browser.text
    assert desk.status_with(cookie) == 401
    browser.press("Sign in again")
    assert browser.url.startswith(idp.url)
    assert "Password" in browser.text


def test_logout_at_the_provider_ends_our_session(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey
) -> None:
    introduce(desk, idp, signing(ours))
    cookie = log_in(browser, desk, idp)
    browser.open(idp.logout_url)
    assert browser.url.startswith(idp.front_url)
    browser.complaints()
    assert desk.status_with(cookie) == 401
    # The next page has a button instead of a redirect, and says only what is known here.
    browser.open(desk.url + "/private")
    assert browser.heading == "You are signed out"
    assert "Your session here has ended" in browser.text
    browser.press("Sign in again")
    assert browser.url.startswith(idp.url)
    assert "Password" in browser.text


def test_providers_logout_with_encrypted_name_ends_session(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey
) -> None:
    idp.be(**{"nameid.encryption": True})
    introduce(desk, idp, {**signing(ours), "encryption_keys": [pair(ours)]}, allow_cbc=True)
    cookie = log_in(browser, desk, idp)
    browser.open(idp.logout_url)
    assert browser.url.startswith(idp.front_url)
    browser.complaints()
    assert desk.status_with(cookie) == 401


def test_both_logouts_work_by_post(
    neighbour: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey, tmp_path: Path
) -> None:
    file = idp.write_metadata(tmp_path / "idp.xml")
    file.write_bytes(by_post_only(file.read_bytes()))
    introduce(neighbour, idp, signing(ours), metadata=str(file))
    idp.trust_metadata(by_post_only(neighbour.metadata()))
    cookie = log_in(browser, neighbour, idp)
    press_sign_out(browser, neighbour)
    browser.wait_for("You are signed out")
    assert "your identity provider has confirmed" in browser.text
    assert neighbour.status_with(cookie) == 401

    browser.press("Sign in again")
    browser.fill(username=idp.user_name, password=idp.password)
    browser.submit("password")
    browser.wait_for_address(neighbour.url)
    cookie = browser.cookie(COOKIE)
    assert neighbour.status_with(cookie) == 200
    browser.open(idp.logout_url)
    browser.wait_for_address(idp.front_url)
    browser.complaints()
    assert neighbour.status_with(cookie) == 401


def test_incomplete_logout_is_reported_to_the_user(
    desk: Desk, neighbour: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey
) -> None:
    introduce(desk, idp, signing(ours))
    # Without a key one can offer no single logout.
    introduce(neighbour, idp)
    idp.trust_metadata(desk.metadata(), neighbour.metadata())
    log_in(browser, neighbour, idp)
    browser.open(desk.url + "/private")
    browser.wait_for(HELLO)
    cookie = browser.cookie(COOKIE)
    press_sign_out(browser, desk)
    browser.wait_for("You are signed out of this application")
    assert "some applications may still be signed in" in browser.text
    assert desk.status_with(cookie) == 401


def test_the_providers_keys_roll_over_without_a_restart(desk: Desk, idp: SimpleSamlPhp, browser: Browser) -> None:
    idp.make_key("next")
    introduce(desk, idp)
    clock = Clock(time.time())
    desk.age_metadata_by(clock)
    provider = desk.provider

    def an_hour_later(keys: int) -> None:
        clock.pass_(HOUR)
        assert len(keys_after_looking(provider)) == keys

    def log_in_anew(heading: str) -> None:
        browser.forget()
        log_in(browser, desk, idp, heading)
        browser.complaints()

    log_in_anew(HELLO)
    idp.be(privatekey="next.key", certificate="next.crt")
    log_in_anew("Signing in did not work")

    idp.be(new_privatekey="next.key", new_certificate="next.crt")
    an_hour_later(keys=2)
    log_in_anew(HELLO)
    idp.be(privatekey="next.key", certificate="next.crt")
    log_in_anew(HELLO)

    an_hour_later(keys=1)
    log_in_anew(HELLO)
    idp.be()
    log_in_anew("Signing in did not work")


def test_our_decryption_keys_roll_over(
    desk: Desk, idp: SimpleSamlPhp, browser: Browser, ours: SigningKey, ours_next: SigningKey
) -> None:
    idp.be(**{"assertion.encryption": True})

    def open_with(*keys: SigningKey) -> bytes:
        table = {
            "identity_providers": {PROVIDER: {"metadata": idp.metadata_url, "allow_cbc": True}},
            "encryption_keys": [pair(key) for key in keys],
        }
        desk.open(ANN, table)
        return desk.metadata()

    def log_in_anew(heading: str) -> None:
        browser.forget()
        log_in(browser, desk, idp, heading)
        browser.complaints()

    idp.trust_metadata(open_with(ours))
    log_in_anew(HELLO)
    # The provider goes by its old copy for a while: what it encrypts for the old key is still opened.
    rolling = open_with(ours_next, ours)
    log_in_anew(HELLO)
    idp.trust_metadata(rolling)
    log_in_anew(HELLO)
    only_next = open_with(ours_next)
    log_in_anew(HELLO)
    # A provider that has slept through it all is not understood any more, until it knows.
    idp.trust_metadata(_with_key(only_next, ours))
    log_in_anew("Signing in did not work")
    idp.trust_metadata(only_next)
    log_in_anew(HELLO)


def _with_key(metadata: bytes, key: SigningKey) -> bytes:
    root = etree.fromstring(metadata)
    (certificate,) = root.iter("{http://www.w3.org/2000/09/xmldsig#}X509Certificate")
    certificate.text = key.certificate
    return etree.tostring(root)
