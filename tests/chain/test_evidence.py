"""Parsing of evidence: Basic credentials (RFC 7617) and the two Salesforce headers."""

from __future__ import annotations

import base64
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_genesys_auth.chain.evidence import (
    MAX_IDENTITY_URL,
    MAX_PASSWORD,
    MAX_SESSION_ID,
    MAX_USER_NAME,
    BasicCredentials,
    Malformed,
    SalesforceCredentials,
    collect,
    parse_basic,
    parse_salesforce,
    read_credentials,
    split_user_name,
)
from flask_genesys_auth.config.names import fold, fold_loosely
from flask_genesys_auth.config.settings import SalesforceHeaders

IDENTITY_URL = "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA"

legal = st.characters(exclude_categories=["Cc", "Cs"])
passwords = st.text(legal, max_size=200)
user_names = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs"], exclude_characters=":\\"), min_size=1, max_size=60
).filter(lambda name: fold(name) == fold(name).strip())


def basic(pair: str | bytes, scheme: str = "Basic") -> str:
    raw = pair.encode() if isinstance(pair, str) else pair
    return f"{scheme} {base64.b64encode(raw).decode()}"


def malformed(header: str) -> bool:
    return isinstance(parse_basic(header), Malformed)


@given(user_names, passwords)
@example("ann@acme.example", "with:colons::")
@example("Ä", "pässwörd €")
@example("test", "123£")  # the example of RFC 7617 2.1
def test_valid_name_and_password_are_returned_unchanged(name: str, password: str) -> None:
    found = parse_basic(basic(f"{name}:{password}"))
    assert isinstance(found, BasicCredentials)
    assert (found.user_name, found.password) == (name, password)
    assert (found.name, found.realm) == (fold(name), "")


@given(user_names, user_names, passwords)
def test_realm_is_split_from_the_name(realm: str, name: str, password: str) -> None:
    found = parse_basic(basic(f"{realm}\\{name}:{password}"))
    assert isinstance(found, BasicCredentials)
    assert (found.realm, found.name) == (fold(realm), fold(name))
    assert found.user_name == f"{realm}\\{name}"


@given(st.text(max_size=300))
def test_no_authorization_header_raises(header: str) -> None:
    assert isinstance(parse_basic(header), (BasicCredentials, Malformed, type(None)))
    assert isinstance(parse_basic(f"Basic {header}"), (BasicCredentials, Malformed))


@given(st.binary(max_size=300))
def test_no_octets_in_base64_raise(octets: bytes) -> None:
    found = parse_basic(basic(octets))
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        assert isinstance(found, Malformed)
    else:
        assert isinstance(found, BasicCredentials) == readable(text)


def readable(text: str) -> bool:
    name, colon, _ = text.partition(":")
    parts = [fold(part) for part in name.split("\\", 1)]
    one_spelling = all(part == part.strip() and "\\" not in part for part in parts) and not any(
        unicodedata.category(letter) == "Cf" for letter in name
    )
    return bool(colon and parts[-1] and one_spelling) and not any(unicodedata.category(one) == "Cc" for one in text)


@pytest.mark.parametrize(
    "name",
    [
        " ann",
        "ann ",
        "ann\u00a0",
        "\u3000ann",
        "ann\u200b",
        "a\u00adnn",
        "\ufeffann",
        "acme\\b\\ann",
        "acme\\ ann",
        "acme \\ann",
    ],
)
def test_other_spelling_of_a_name_is_malformed(name: str) -> None:
    assert malformed(basic(f"{name}:secret"))
    for accepted in ("ann", "acme\\ann", "ann of acme", "acme corp\\ann", "änn"):
        assert not malformed(basic(f"{accepted}: secret\u200b\\ "))


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic YW5uOnNlY3JldA",  # no padding
        "Basic YW5u OnNlY3JldA==",
        "Basic YW5uOnNlY3JldA==, Basic YW5uOnNlY3JldA==",
        "Basic \xe4\xf6",
        "Basic Ω",
        basic("no colon"),
        basic(":no name"),
        basic("REALM\\:no name"),
        basic("nul\0:x"),
        basic("ann:new\nline"),
        basic("ann:delete\x7f"),
        basic("ann\x85:x"),
        basic(b"\xff\xfe:x"),
        basic("ann:\xe4".encode("latin-1")),
        basic(b"ann:\xed\xa0\x80"),  # a surrogate in UTF-8
        basic("a" * (MAX_USER_NAME + 1) + ":x"),
        basic("\ufb03" * 200 + ":x"),  # three times as long when folded
        basic("ann:" + "x" * (MAX_PASSWORD + 1)),
    ],
)
def test_unreadable_credentials_are_malformed(header: str) -> None:
    assert malformed(header)
    assert not malformed(basic("ann:secret"))


@pytest.mark.parametrize(
    "header", [None, "", "Bearer YW5uOnNlY3JldA==", "BasicYW5uOnNlY3JldA==", "Digest x", "Negotiate"]
)
def test_other_scheme_is_not_evidence(header: str | None) -> None:
    assert parse_basic(header) is None


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc", " Basic", "Basic  "])
def test_scheme_is_case_insensitive(scheme: str) -> None:
    found = parse_basic(basic("ann:secret", scheme))
    assert isinstance(found, BasicCredentials)
    assert found.password == "secret"


def test_longest_name_and_password_are_accepted() -> None:
    found = parse_basic(basic("a" * MAX_USER_NAME + ":" + "x" * MAX_PASSWORD))
    assert isinstance(found, BasicCredentials)
    assert (len(found.name), len(found.password)) == (MAX_USER_NAME, MAX_PASSWORD)


def test_empty_password_is_parsed() -> None:
    found = parse_basic(basic("ann:"))
    assert isinstance(found, BasicCredentials)
    assert found.password == ""


def test_login_form_has_the_rules_of_basic() -> None:
    assert isinstance(read_credentials("an:n", ":", "secret"), Malformed)
    assert isinstance(read_credentials("ann", ":", "secret"), BasicCredentials)


@pytest.mark.parametrize(
    ("user_name", "realm", "name", "domain"),
    [
        ("ann", "", "ann", ""),
        ("Ann@ACME.Example", "", "ann@acme.example", "acme.example"),
        ("ACME\\Ann", "acme", "ann", ""),
        ("ACME\\ann@beta.example", "acme", "ann@beta.example", "beta.example"),
        ("\\ann", "", "ann", ""),
        ("a@b@Acme.Example", "", "a@b@acme.example", "acme.example"),
        ("ann@", "", "ann@", ""),
        ("STRASSE", "", "strasse", ""),
        ("Straße", "", "strasse", ""),
        ("A\u030a", "", "\xe5", ""),
    ],
)
def test_names_are_taken_apart_and_folded(user_name: str, realm: str, name: str, domain: str) -> None:
    found = parse_basic(basic(f"{user_name}:x"))
    assert isinstance(found, BasicCredentials)
    assert (found.realm, found.name, found.domain) == (realm, name, domain)
    assert split_user_name(user_name) == (realm, name)


def test_folding_any_character_twice_changes_nothing_more() -> None:
    assigned = (one for one in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(one) not in {"Cn", "Co"})
    changed = [hex(ord(one)) for one in assigned if fold(fold(one)) != fold(one)]
    assert changed == []


@given(st.text())
def test_canonically_equivalent_names_fold_alike(name: str) -> None:
    folded = fold(name)
    assert fold(unicodedata.normalize("NFD", name)) == folded
    assert fold(folded) == folded


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_wide_letters_fold_loosely_as_narrow_ones(name: str) -> None:
    wide = "".join("\u3000" if one == " " else chr(ord(one) + 0xFEE0) for one in name)
    assert fold_loosely(wide) == fold_loosely(name) == " ".join(fold(name).split())


@pytest.mark.parametrize(
    ("session_id", "identity_url"),
    [(None, None), ("", ""), ("00Dxx!AQ", None), (None, IDENTITY_URL), ("", IDENTITY_URL)],
)
def test_both_salesforce_headers_are_needed(session_id: str | None, identity_url: str | None) -> None:
    assert parse_salesforce(session_id, identity_url) is None


@pytest.mark.parametrize(
    ("session_id", "identity_url"),
    [
        ("x" * (MAX_SESSION_ID + 1), IDENTITY_URL),
        ("00Dxx!AQ", IDENTITY_URL + "x" * MAX_IDENTITY_URL),
        ("00Dxx!AQ\r\nX: y", IDENTITY_URL),
        ("00Dxx AQ", IDENTITY_URL),
        ("00Dxx!AQ", IDENTITY_URL + "\u212a"),
        ("\xe4", IDENTITY_URL),
    ],
)
def test_invalid_salesforce_headers_are_malformed(session_id: str, identity_url: str) -> None:
    assert isinstance(parse_salesforce(session_id, identity_url), Malformed)
    assert isinstance(parse_salesforce("00Dxx!AQ", IDENTITY_URL), SalesforceCredentials)


@given(st.text(), st.text())
def test_no_salesforce_header_raises(session_id: str, identity_url: str) -> None:
    found = parse_salesforce(session_id, identity_url)
    assert found is None or isinstance(found, Malformed) or found.session_id == session_id


def test_invalid_identity_url_has_no_identity() -> None:
    good, bad = parse_salesforce("s", IDENTITY_URL), parse_salesforce("s", "https://evil.example/")
    assert isinstance(good, SalesforceCredentials)
    assert good.identity is not None
    assert good.identity.organization == "00D000000000001"
    assert isinstance(bad, SalesforceCredentials)
    assert bad.identity is None


def test_configured_header_names_are_read() -> None:
    headers = {
        "Authorization": basic("ann:secret"),
        "X-Session": "00Dxx!AQ",
        "X-Identity": IDENTITY_URL,
        "ContactCenterId": "acme-7",
    }
    request = Request(
        EnvironBuilder(headers=list(headers.items()), environ_base={"REMOTE_ADDR": "192.0.2.1"}).get_environ()
    )
    evidence = collect(request, SalesforceHeaders(session="X-Session", identity="X-Identity"), dry_run=True)
    assert evidence.address == "192.0.2.1"
    assert isinstance(evidence.basic, BasicCredentials)
    assert isinstance(evidence.salesforce, SalesforceCredentials)
    assert evidence.contact_center_id == "acme-7"
    assert evidence.resume() is None
    assert evidence.dry_run
    assert collect(request, SalesforceHeaders()).salesforce is None


def test_empty_request_has_no_evidence() -> None:
    evidence = collect(Request(EnvironBuilder().get_environ()), SalesforceHeaders())
    assert (evidence.basic, evidence.salesforce, evidence.contact_center_id, evidence.address) == (None, None, "", "")


def test_no_password_and_no_session_id_shows() -> None:
    headers = {"Authorization": basic("ann:pa55word"), "ssid": "00Dxx!SECRET", "surl": IDENTITY_URL}
    evidence = collect(Request(EnvironBuilder(headers=list(headers.items())).get_environ()), SalesforceHeaders())
    assert "ann" in repr(evidence)
    assert "pa55word" not in repr(evidence)
    assert "SECRET" not in repr(evidence)
    assert basic("ann:pa55word")[6:] not in repr(evidence)
