"""Parsing of Salesforce identity URLs: the strict form only."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flask_genesys_auth.chain.evidence import IdentityUrl, parse_identity_url
from flask_genesys_auth.config.names import short_id

ORGANIZATION = "00D000000000001"
USER = "005000000000001"
GOOD = f"https://login.salesforce.com/id/{ORGANIZATION}/{USER}"

ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
rest_of_id = st.text(ALPHANUMERIC, min_size=12, max_size=12)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.none() | st.integers(1, 65535)


def checksum(short: str) -> str:
    """As Salesforce's support page does it: each five characters reversed, read as a binary number."""
    table = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    fives = [short[:5], short[5:10], short[10:]]
    return "".join(table[int("".join("01"["A" <= letter <= "Z"] for letter in five[::-1]), 2)] for five in fives)


def oracle(url: str) -> IdentityUrl | None:
    """Judge by urllib's own parser and by taking the path apart, without a regular expression."""
    if any(not "!" <= letter <= "~" for letter in url) or any(letter in url for letter in "?#@\\%"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    pieces = parts.path.split("/")
    if parts.scheme not in {"http", "https"} or not _is_host(host) or len(pieces) != 4 or pieces[:2] != ["", "id"]:
        return None
    bare = f"[{host}]" if ":" in host else host
    if parts.netloc.lower() != (bare if port is None else f"{bare}:{port}") or port == 0:
        return None
    organization, user = (_fifteen(piece, prefix) for piece, prefix in ((pieces[2], "00D"), (pieces[3], "005")))
    if organization is None or user is None:
        return None
    return IdentityUrl(
        parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], parts.path, organization, user
    )


def _is_host(host: str) -> bool:
    labels = host.split(".")
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    return host == "::1" or all(
        label and set(label) <= allowed and label[0] != "-" and label[-1] != "-" and len(label) < 64 for label in labels
    )


def _fifteen(identifier: str, prefix: str) -> str | None:
    if not identifier.startswith(prefix) or not set(identifier) <= set(ALPHANUMERIC):
        return None
    short, tail = identifier[:15], identifier[15:]
    return short if len(short) == 15 and tail in {"", checksum(short)} else None


@given(st.sampled_from(["http", "https", "HTTPS", "Https"]), hosts, ports, rest_of_id, rest_of_id, st.booleans())
def test_valid_identity_url_is_parsed(
    scheme: str, host: str, port: int | None, organization: str, user: str, long: bool
) -> None:
    ids = ["00D" + organization, "005" + user]
    sent = [one + checksum(one) if long else one for one in ids]
    path = f"/id/{sent[0]}/{sent[1]}"
    found = parse_identity_url(f"{scheme}://{host.upper()}{'' if port is None else f':{port}'}{path}")
    default = {"http": 80, "https": 443}[scheme.lower()]
    assert found == IdentityUrl(scheme.lower(), host, port or default, path, ids[0], ids[1])


@given(st.text())
@example(GOOD)
def test_arbitrary_text_parses_as_the_oracle_says(url: str) -> None:
    assert parse_identity_url(url) == oracle(url)


@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.text(max_size=3))
@example(0, 0, " ")
@example(len(GOOD), 0, "\n")
@example(8, 0, "user@")
@example(len(GOOD), 0, "?x")
@example(len(GOOD), 0, "#")
@example(len(GOOD), 0, "/")
@example(8, 1, "\u212a")
@example(28, 0, ":0443")
@example(28, 0, ":65536")
@example(28, 0, ":0")
@example(28, 0, ":")
@example(28, 0, ".")
@example(13, 0, ".")
def test_changed_address_parses_as_the_oracle_says(place: int, dropped: int, put: str) -> None:
    url = GOOD[:place] + put + GOOD[place + dropped :]
    assert parse_identity_url(url) == oracle(url)


PIECES = [
    "https",
    "http",
    "://",
    ":/",
    "//",
    "/",
    "\\",
    "login.salesforce.com",
    "[::1]",
    "127.0.0.1",
    "@",
    ":443",
    ":8443",
]
PIECES += [
    "/id/",
    "id",
    ORGANIZATION,
    USER,
    "AAA",
    "..",
    ".",
    "?",
    "#",
    "%2f",
    ";",
    " ",
    "\t",
    "\n",
    "\u3002",
    "\u2025",
]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_combined_pieces_parse_as_the_oracle_says(url: str) -> None:
    assert parse_identity_url(url) == oracle(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        f"https:///id/{ORGANIZATION}/{USER}",
        f"ftp://login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"//login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https:\\\\login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com\\@evil.example/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com@evil.example/id/{ORGANIZATION}/{USER}",
        f"https://evil.example#login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://evil.example?login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com:/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com:70000/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com./id/{ORGANIZATION}/{USER}",
        f"https://login..salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://-login.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://login_.salesforce.com/id/{ORGANIZATION}/{USER}",
        f"https://\u212a.example/id/{ORGANIZATION}/{USER}",
        f"https://[::2]/id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com/ID/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com/id/{USER}/{ORGANIZATION}",
        f"https://login.salesforce.com//id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com/x/../id/{ORGANIZATION}/{USER}",
        f"https://login.salesforce.com/id/{ORGANIZATION}/{USER}/",
        f"https://login.salesforce.com/id/{ORGANIZATION}/{USER}AAB",
        f"https://login.salesforce.com/id/{ORGANIZATION}AA/{USER}",
        f"https://login.salesforce.com/id/{ORGANIZATION[:-1]}\u0661/{USER}",
        GOOD + "\n",
        GOOD + "?x=y",
        GOOD + "#",
        GOOD + ";x",
        GOOD + "%00",
        " " + GOOD,
    ],
)
def test_nothing_else_is_taken(url: str) -> None:
    assert parse_identity_url(url) is None
    assert oracle(url) is None
    assert parse_identity_url(GOOD) == IdentityUrl(
        "https", "login.salesforce.com", 443, f"/id/{ORGANIZATION}/{USER}", ORGANIZATION, USER
    )


def test_loopback_and_ports_are_kept() -> None:
    found = parse_identity_url(f"http://[::1]:5002/id/{ORGANIZATION}/{USER}")
    assert found is not None
    assert (found.scheme, found.host, found.port) == ("http", "::1", 5002)


@given(st.text(ALPHANUMERIC, min_size=15, max_size=15))
def test_long_id_needs_the_right_checksum(short: str) -> None:
    assert short_id(short) == short
    assert short_id(short + checksum(short)) == short


@given(st.text(ALPHANUMERIC, min_size=15, max_size=15), st.text(ALPHANUMERIC, min_size=3, max_size=3))
def test_any_other_checksum_is_refused(short: str, tail: str) -> None:
    assume(tail != checksum(short))
    assert short_id(short + tail) is None


@given(st.text(max_size=20))
def test_id_has_15_or_18_letters_and_digits(text: str) -> None:
    assume(not (len(text) in {15, 18} and set(text) <= set(ALPHANUMERIC)))
    assert short_id(text) is None


def test_known_pair_of_ids() -> None:
    # Salesforce's documentation of the two forms gives this pair.
    assert short_id("001A0000006Vm9uIAC") == "001A0000006Vm9u"
    assert short_id("001A0000006Vm9uIAD") is None
