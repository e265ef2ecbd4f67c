"""Names with special characters are escaped, as text and for a real OpenLDAP."""

from __future__ import annotations

from typing import Any

import ldap3
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ldap3.operation.search import search_operation
from ldap3.utils import dn as ldap3_dn

from flask_genesys_auth.chain.outcomes import Reason, Rejected
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.names import escape_dn_value, fold, normalise_dn, parse_dn
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.directories.ldap.directory import (
    fill_filter,
    fill_name,
    filter_value,
    is_unambiguous,
    unused_dn,
)
from tests.slapd import PASSWORD, PEOPLE, SlapdServer

SPECIAL = "\"\\+,;<>=#*()&|!~:/'@{}%$?[]^`. -_"
TEXT = st.text(
    st.sampled_from(SPECIAL + "abz09äß漢😀") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
)
NAMES = st.text(st.sampled_from(SPECIAL + "abz09äß漢😀"), min_size=1, max_size=20).map(fold)
TEMPLATE: dict[str, Any] = {"base": "", "bind_dn": "", "bind_password": None, "user_dn": f"uid={{user}},{PEOPLE}"}


@given(TEXT)
def test_escaped_value_stays_one_value(text: str) -> None:
    assert parse_dn(f"uid={escape_dn_value(text)},ou=people,dc=acme") == (
        (("uid", text),),
        (("ou", "people"),),
        (("dc", "acme"),),
    )


@given(TEXT)
def test_another_reader_reads_the_same_distinguished_name(text: str) -> None:
    assume(text == text.strip() and "\n" not in text and text.isprintable())
    found = ldap3_dn.parse_dn(f"uid={escape_dn_value(text)},ou=people")
    assert len(found) == 2
    assert found[0][0] == "uid"
    assert found[1][:2] == ("ou", "people")


@given(TEXT)
def test_escaped_filter_value_stays_one_value(text: str) -> None:
    filter_ = fill_filter("(&(uid={user})(member={dn}))", user=text, dn=f"uid={text}")
    request = search_operation("", filter_, ldap3.SUBTREE, ldap3.DEREF_NEVER, [], 0, 0, False, False, True)
    both = request["filter"]["and"]
    assert len(both) == 2
    values = [bytes(one["equalityMatch"]["assertionValue"]).decode() for one in both]
    assert values == [text, f"uid={text}"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("ann", "ann"),
        ("a,b", r"a\2cb"),
        (' #+"\\<>;=', r"\20\23\2b\22\5c\3c\3e\3b\3d"),
        ("a b ", r"a b\20"),
        ("a\0b", r"a\00b"),
        ("ä", "ä"),
    ],
)
def test_distinguished_names_are_escaped_by_rfc_4514(text: str, escaped: str) -> None:
    assert escape_dn_value(text) == escaped
    assert fill_name("uid={user},dc=acme", text) == f"uid={escaped},dc=acme"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("ann", "ann"),
        ("*", r"\2a"),
        ("a)(uid=*", r"a\29\28uid\3d\2a"),
        ("\\2a", r"\5c2a"),
        ("\0", r"\00"),
        ("ä", r"\c3\a4"),
    ],
)
def test_filters_are_escaped_by_rfc_4515(text: str, escaped: str) -> None:
    assert filter_value(text) == escaped


def test_names_put_in_cannot_ask_for_more_names() -> None:
    assert fill_filter("(|(uid={user})(member={dn}))", user="{dn}", dn="{user}") == (
        r"(|(uid=\7bdn\7d)(member=\7buser\7d))"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=Agents,OU=Groups,DC=acme", "cn=agents,ou=groups,dc=acme"),
        ("cn=agents, ou=groups , dc=acme", "cn=agents,ou=groups,dc=acme"),
        (r"cn=a\2Cb,dc=acme", r"CN=A\,B,dc=acme"),
        ("cn=a  b,dc=acme", "cn=a b,dc=acme"),
        ("cn=a+sn=b,dc=acme", "SN=b+CN=a,dc=acme"),
        ("Agents", "agents"),
        (r"cn=\c3\a4,dc=acme", "cn=Ä,dc=acme"),
    ],
)
def test_equal_groups_have_one_form(one: str, other: str) -> None:
    assert normalise_dn(one) == normalise_dn(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=agents,ou=groups,dc=acme", "cn=agents,ou=others,dc=acme"),
        (r"cn=agents\,ou=groups,dc=acme", "cn=agents,ou=groups,dc=acme"),
        ("cn=agents,dc=acme", "cn=agents"),
        (r"cn=a\+sn=b,dc=acme", "cn=a+sn=b,dc=acme"),
    ],
)
def test_another_group_is_another(one: str, other: str) -> None:
    assert normalise_dn(one) != normalise_dn(other)


@given(TEXT, TEXT)
def test_normal_form_of_a_group_is_stable(one: str, other: str) -> None:
    found = normalise_dn(f"CN={escape_dn_value(one)},OU={escape_dn_value(other)}")
    assume(parse_dn(found) is not None)
    assert normalise_dn(found) == found


NO_NAMES = ("", "ann", "=", "uid=", "uid=ann,", ",uid=ann", "uid=a\\", "uid=a\\zz", 'uid="ann"', "uid=<", "uid=#04")
NO_NAMES_EITHER = ("1=a", "ü=a", r"uid=\ff", "uid=a,,ou=b", "uid=a;ou=b", "uid=  ", "uid=a,ou")


@pytest.mark.parametrize("text", [*NO_NAMES, *NO_NAMES_EITHER])
def test_invalid_distinguished_name_is_none(text: str) -> None:
    assert parse_dn(text) is None
    assert parse_dn("uid=ann") == ((("uid", "ann"),),)


def test_unused_dn_is_random_and_valid() -> None:
    assert len({unused_dn(PEOPLE) for _ in range(100)}) == 100
    assert parse_dn(unused_dn(PEOPLE)) is not None


@pytest.mark.parametrize("name", ["ann", "ann@acme.example", "a*"])
def test_plain_name_is_unambiguous(name: str) -> None:
    assert is_unambiguous(name)


@pytest.mark.parametrize("name", ["", "a b", "ä", "\uff41nn", "a\u00adnn", "a\u200bnn", "a\x00"])
def test_ambiguous_name_is_recognised(name: str) -> None:
    assert not is_unambiguous(name)


# To a real OpenLDAP


@pytest.fixture(scope="module", params=["search", "template"])
def directory(slapd: SlapdServer, request: pytest.FixtureRequest) -> LdapDirectory:
    return LdapDirectory(slapd.settings(**(TEMPLATE if request.param == "template" else {})))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
def test_special_names_find_only_their_entry(slapd: SlapdServer, directory: LdapDirectory, name: str) -> None:
    assume(name == " ".join(name.split()))  # other spellings get no further than the evidence
    slapd.add_person("victim", "the victim's")
    slapd.add_person(name, "their own")
    found = directory.verify(name, "their own")
    assert isinstance(found, DirectoryEntry), found
    assert fold(found.attributes["username"]) == name
    assert isinstance(directory.verify(name, "the victim's"), Rejected)


INJECTIONS = [
    "*",
    "vic*",
    "victim)(uid=*",
    "*)(uid=victim",
    "victim)",
    "x)(|(uid=victim)",
    "victim\\2a",
    "\\76ictim",
    "victim,ou=people,dc=acme,dc=example",
    "uid=victim",
    "victim+cn=victim",
    "victim\\",
    '"victim"',
    "#04066d",
    "victim;ou=people",
    "victim#",
    "<victim>",
    "cn=admin,dc=acme,dc=example",
]


@pytest.mark.parametrize("name", INJECTIONS)
def test_injected_name_finds_no_other_user(slapd: SlapdServer, directory: LdapDirectory, name: str) -> None:
    slapd.add_person("victim", "the victim's")
    found = directory.verify(name, "the victim's")
    assert isinstance(found, Rejected), found
    assert found.reason is Reason.BAD_CREDENTIALS
    assert directory.verify("victim", "the victim's") == DirectoryEntry({"username": "victim"})


@pytest.mark.parametrize("name", INJECTIONS)
def test_special_name_finds_its_own_entry(slapd: SlapdServer, directory: LdapDirectory, name: str) -> None:
    called = f"x{name}"  # so that no user is added whom another test requires to be unknown
    slapd.add_person(called, PASSWORD)
    found = directory.verify(called, PASSWORD)
    assert isinstance(found, DirectoryEntry), found
    assert found.attributes["username"] == called
