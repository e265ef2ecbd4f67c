"""The development identity provider in Chromium: what SimpleSAMLphp does not do, and what a person sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.testing.identity_provider import DevelopmentIdentityProvider
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key
from flask_genesys_auth.testing.server import LoopbackServer, unused_url

from .chromium import Browser
from .real_desk import COOKIE, PROVIDER, Desk, by_post_only, pair, signing

ANN = "ann@acme.example"
HELLO = f"Hello {ANN}"


@pytest.fixture(scope="module")
def ours() -> SigningKey:
    return generate_signing_key("ours")


@pytest.fixture(scope="module")
def theirs() -> SigningKey:
    return generate_signing_key("theirs")


@pytest.fixture
def idp(theirs: SigningKey) -> Iterator[DevelopmentIdentityProvider]:
    """On ``localhost``."""
    made = DevelopmentIdentityProvider(key=theirs)
    made.add_user("Ann", name_id=ANN)
    made.add_user("Bob")
    with LoopbackServer(made, host="localhost") as server:
        made.url = server.url
        yield made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Ours, on another site than the provider."""
    made = Desk(tmp_path / "desk", host="127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "second", host="localhost")
    yield made
    made.close()


def introduce(desk: Desk, idp: DevelopmentIdentityProvider, saml: dict[str, Any] | None = None, **more: Any) -> None:
    table = {"identity_providers": {PROVIDER: {"metadata": idp.entity_id, **more}}, **(saml or {})}
    desk.open(ANN, table)


def log_in(browser: Browser, desk: Desk, button: str = "Sign in as Ann") -> str:
    browser.open(desk.url + "/private")
    assert browser.heading == "Choose who you are"
    browser.press(button)
    browser.wait_for(HELLO)
    return browser.cookie(COOKIE)


@pytest.mark.parametrize("binding", ["redirect", "post"])
def test_single_logout_works_from_both_sides(
    desk: Desk, idp: DevelopmentIdentityProvider, browser: Browser, ours: SigningKey, tmp_path: Path, binding: str
) -> None:
    # By POST no cookie of either side comes along: the two are on different sites.
    if binding == "post":
        (tmp_path / "idp.xml").write_bytes(by_post_only(idp.metadata_xml.encode()))
        introduce(desk, idp, signing(ours), metadata=str(tmp_path / "idp.xml"), binding="post")
        idp.add_service_provider(by_post_only(desk.metadata()))
    else:
        introduce(desk, idp, signing(ours))
    cookie = log_in(browser, desk)
    browser.open(desk.address("logout"))
    browser.press("Sign out")
    browser.wait_for("You are signed out")
    assert "your identity provider has confirmed" in browser.text
    assert desk.status_with(cookie) == 401
    browser.open(idp.url)
    assert "You are not signed in here" in browser.text

    browser.open(desk.address("login") + "?next=/private")
    browser.press("Sign in as Ann")
    browser.wait_for(HELLO)
    cookie = browser.cookie(COOKIE)
    assert desk.status_with(cookie) == 200
    browser.open(idp.url)
    browser.press("Sign out of the identity provider")
    browser.wait_for("Signed out")
    assert "Some applications" not in browser.text
    assert desk.status_with(cookie) == 401


def test_logging_out_reaches_the_other_service_provider_too(
    desk: Desk, second: Desk, idp: DevelopmentIdentityProvider, browser: Browser, ours: SigningKey
) -> None:
    introduce(desk, idp, signing(ours))
    introduce(second, idp, signing(ours))
    cookies = log_in(browser, desk), log_in(browser, second, "Continue as Ann")
    assert (desk.status_with(cookies[0]), second.status_with(cookies[1])) == (200, 200)
    browser.open(desk.address("logout"))
    browser.press("Sign out")
    browser.wait_for("You are signed out")
    assert (desk.status_with(cookies[0]), second.status_with(cookies[1])) == (401, 401)


@pytest.mark.parametrize("begins", ["here", "there"])
def test_incomplete_logout_is_reported_to_the_user(
    desk: Desk, second: Desk, idp: DevelopmentIdentityProvider, browser: Browser, ours: SigningKey, begins: str
) -> None:
    introduce(desk, idp, signing(ours))
    introduce(second, idp)
    cookies = log_in(browser, desk), log_in(browser, second, "Continue as Ann")
    if begins == "here":
        browser.open(desk.address("logout"))
        browser.press("Sign out")
        browser.wait_for("You are signed out of this application")
        assert "some applications may still be signed in" in browser.text
    else:
        browser.open(idp.url)
        browser.press("Sign out of the identity provider")
        browser.wait_for("Signed out")
        assert "Some applications may still have you signed in" in browser.text
    assert (desk.status_with(cookies[0]), second.status_with(cookies[1])) == (401, 200)


def test_a_provider_that_never_answers_is_told_of(
    desk: Desk, idp: DevelopmentIdentityProvider, browser: Browser, ours: SigningKey, tmp_path: Path
) -> None:
    file = tmp_path / "idp.xml"
    file.write_text(idp.metadata_xml.replace(f"{idp.url}/slo", f"{unused_url()}/slo"))
    introduce(desk, idp, signing(ours), metadata=str(file))
    cookie = log_in(browser, desk)
    browser.open(desk.address("logout"))
    browser.press("Sign out")
    assert not browser.url.startswith(desk.url)
    browser.complaints()
    assert desk.status_with(cookie) == 401
    browser.open(desk.address("signed-out"))
    assert browser.heading == "You are signed out of this application"
    assert "has not confirmed yet" in browser.text


@pytest.mark.parametrize("sign_response", [False, True])
def test_assertions_are_encrypted_for_applications_with_a_key(
    desk: Desk, theirs: SigningKey, browser: Browser, ours: SigningKey, sign_response: bool
) -> None:
    idp = DevelopmentIdentityProvider(key=theirs, sign_response=sign_response)
    idp.add_user("Ann", name_id=ANN)
    with LoopbackServer(idp, host="localhost") as server:
        idp.url = server.url
        introduce(desk, idp, {"encryption_keys": [pair(ours)]}, want_response_signed=sign_response)
        log_in(browser, desk)
        # The provider still has the former metadata: without the key its answer cannot be decrypted.
        idp.add_service_provider(desk.metadata())
        introduce(desk, idp)
        browser.forget()
        browser.open(desk.url + "/private")
        browser.press("Sign in as Ann")
        browser.wait_for("Signing in did not work")


def test_provider_starts_a_login_only_where_allowed(
    desk: Desk, idp: DevelopmentIdentityProvider, browser: Browser
) -> None:
    introduce(desk, idp, allow_unsolicited=True)
    idp.add_service_provider(desk.metadata())
    browser.open(idp.url)
    browser.press(f"Go to {desk.address('metadata')}")
    browser.press("Sign in as Ann")
    browser.wait_for(f"Continue as {ANN}?")
    browser.press("Continue")
    browser.open(desk.url + "/private")
    assert browser.heading == HELLO

    introduce(desk, idp)
    browser.open(idp.url)
    browser.press(f"Go to {desk.address('metadata')}")
    browser.press("Continue as Ann")
    browser.wait_for("Signing in did not work")


def test_a_wrong_choice_is_no_dead_end(desk: Desk, idp: DevelopmentIdentityProvider, browser: Browser) -> None:
    introduce(desk, idp)
    browser.open(desk.url + "/private")
    browser.press("Sign in as Bob")
    browser.wait_for("Signing in did not work")
    browser.open(desk.address("login"))
    browser.press("Continue as Bob")
    browser.wait_for("Signing in did not work")
    browser.press("Sign in")  # which asks the provider to ask anew
    assert "Continue as Bob" not in browser.text
    browser.press("Sign in as Ann")
    browser.wait_for_address(desk.url + "/")
    browser.open(desk.url + "/private")
    browser.wait_for(HELLO)
    browser.open(desk.address("login") + "?force_authn=true")
    assert "Continue" not in browser.text


def test_a_passive_request_shows_no_prompt(desk: Desk, idp: DevelopmentIdentityProvider, browser: Browser) -> None:
    introduce(desk, idp)
    browser.open(desk.address("login") + "?is_passive=true&next=/open")
    browser.wait_for("Open to everybody")
    log_in(browser, desk)
    browser.open(desk.address("login") + "?is_passive=true&next=/private%3Fagain")
    browser.wait_for(HELLO)
    assert browser.url == desk.url + "/private?again"
