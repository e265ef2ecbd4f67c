"""Logins with a real OpenLDAP: accepted and rejected users, and their attributes."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

import ldap3
import pytest

from flask_genesys_auth.chain.outcomes import Reason, Rejected, Unavailable
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import LdapAttributes
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.errors import ConfigurationError
from tests.slapd import BASE, GROUPS, PASSWORD, PEOPLE, SECRET, SERVICE, SlapdServer

ANN = DirectoryEntry({"username": "ann"})
TEMPLATE: dict[str, Any] = {
    "base": "",
    "user_dn": f"uid={{user}},{PEOPLE}",
    "bind_dn": "",
    "bind_password": None,
}
EVERYTHING = LdapAttributes(
    login_name="cn",
    cme_user_name="employeeNumber",
    identity="entryUUID",
    email="mail",
    first_name="givenName",
    last_name="sn",
    groups="memberOf",
)


@pytest.fixture(scope="module", autouse=True)
def people(slapd: SlapdServer) -> None:
    ann = slapd.add_person("ann", mail="ann@acme.example", givenName="Ann", employeeNumber="1017")
    bob = slapd.add_person("bob")
    slapd.add_group("cc-agents", ann, bob)
    slapd.add_group("CC-Supervisors", ann)


def ask(slapd: SlapdServer, name: str = "ann", password: str = PASSWORD, **changes: Any) -> object:
    directory = LdapDirectory(slapd.settings(**changes))
    found = directory.verify(name, password)
    directory.close()
    return found


def rejected(found: object) -> Reason:
    assert isinstance(found, Rejected), found
    return found.reason


@pytest.mark.parametrize("changes", [{}, TEMPLATE, {**TEMPLATE, "bind_dn": SERVICE, "bind_password": Secret(SECRET)}])
def test_only_the_good_password_is_accepted(slapd: SlapdServer, changes: dict[str, Any]) -> None:
    assert ask(slapd, **changes) == ANN
    for name, password in (("ann", "wrong"), ("ann", PASSWORD + " "), ("nobody", PASSWORD), ("nobody", "wrong")):
        assert rejected(ask(slapd, name, password, **changes)) is Reason.BAD_CREDENTIALS
    slapd.change(f"uid=ann,{PEOPLE}", userPassword=PASSWORD)
    slapd.change(f"uid=ann,{PEOPLE}", pwdReset="FALSE")


@pytest.mark.parametrize("changes", [{}, TEMPLATE])
@pytest.mark.parametrize(("name", "password"), [("ann", ""), ("", PASSWORD), ("ann", "\0"), ("ann", f"{PASSWORD}\0")])
def test_anonymous_bind_is_never_sent(slapd: SlapdServer, changes: dict[str, Any], name: str, password: str) -> None:
    directory = LdapDirectory(slapd.settings(**changes))
    before = slapd.binds()
    assert rejected(directory.verify(name, password)) is Reason.BAD_CREDENTIALS
    assert slapd.binds() == before
    assert directory.verify("ann", PASSWORD) == ANN
    assert slapd.binds() > before


@pytest.mark.parametrize("password", ["\ud800", "pass\udcff"])
def test_invalid_text_is_rejected_and_not_quoted(slapd: SlapdServer, password: str) -> None:
    assert rejected(ask(slapd, password=password)) is Reason.BAD_CREDENTIALS
    assert rejected(ask(slapd, name=password)) is Reason.BAD_CREDENTIALS


@pytest.mark.parametrize("password", ["ﬀ ½", "p\u00a0w", "\u200bpw", "a\tb", "אבa", "x" * 500])
def test_passwords_are_sent_as_they_are(slapd: SlapdServer, password: str) -> None:
    slapd.add_person("odd")
    slapd.change(f"uid=odd,{PEOPLE}", userPassword=password, pwdReset="FALSE")
    assert ask(slapd, "odd", password) == DirectoryEntry({"username": "odd"})
    assert rejected(ask(slapd, "odd", "wrong")) is Reason.BAD_CREDENTIALS
    assert ask(slapd, "odd", password, **TEMPLATE) == DirectoryEntry({"username": "odd"})


@pytest.mark.parametrize("changes", [{}, TEMPLATE])
def test_directory_returns_the_users_attributes(slapd: SlapdServer, changes: dict[str, Any]) -> None:
    found = ask(slapd, attributes=EVERYTHING, **changes)
    assert isinstance(found, DirectoryEntry), found
    known = dict(found.attributes)
    assert len(known.pop("identity")) == 36
    assert known == {
        "username": "ann",
        "login_name": "ann",
        "cme_user_name": "1017",
        "email": "ann@acme.example",
        "first_name": "Ann",
        "last_name": "ann",
    }
    assert found.groups == (f"cn=cc-agents,{GROUPS}", f"cn=cc-supervisors,{GROUPS}")


def test_groups_are_searched_for(slapd: SlapdServer) -> None:
    found = ask(slapd, group_base=GROUPS)
    assert isinstance(found, DirectoryEntry)
    assert found.groups == (f"cn=cc-agents,{GROUPS}", f"cn=cc-supervisors,{GROUPS}")
    found = ask(slapd, "bob", group_base=GROUPS, group_filter="(&(objectClass=groupOfNames)(member={dn}))")
    assert isinstance(found, DirectoryEntry)
    assert found.groups == (f"cn=cc-agents,{GROUPS}",)
    by_service = {**TEMPLATE, "bind_dn": SERVICE, "bind_password": Secret(SECRET)}
    found = ask(slapd, "bob", group_base=GROUPS, **by_service)
    assert isinstance(found, DirectoryEntry)
    assert found.groups == (f"cn=cc-agents,{GROUPS}",)


def test_user_name_comes_from_the_entry(slapd: SlapdServer) -> None:
    by_mail = {"filter": "(|(uid={user})(mail={user}))"}
    assert ask(slapd, "ann@acme.example", **by_mail) == ANN
    wide = "\uff41\uff4e\uff4e"  # which a directory takes for ann
    assert ask(slapd, wide) == ANN
    assert ask(slapd, wide, **TEMPLATE) == ANN


def test_of_several_values_the_typed_one_counts(slapd: SlapdServer) -> None:
    slapd.add_person("twice", mail=["twice@acme.example", "second@acme.example"])
    slapd.change(f"uid=twice,{PEOPLE}", displayName="x")
    by_mail: dict[str, Any] = {
        "filter": "(|(uid={user})(mail={user}))",
        "attributes": LdapAttributes(username="mail", email="mail"),
    }
    found = ask(slapd, "second@acme.example", **by_mail)
    assert isinstance(found, DirectoryEntry)
    assert found.attributes["username"] == "second@acme.example"
    found = ask(slapd, "twice", **by_mail)
    assert isinstance(found, DirectoryEntry)
    assert set(found.attributes) == {"email"}


def test_several_entries_are_rejected(slapd: SlapdServer) -> None:
    for name in ("twin1", "twin2", "twin3"):
        slapd.add_person(name, mail="twins@acme.example")
    by_mail = {"filter": "(mail={user})"}
    assert rejected(ask(slapd, "twins@acme.example", **by_mail)) is Reason.AMBIGUOUS_NAME
    assert ask(slapd, "ann@acme.example", **by_mail) == ANN


def test_entry_without_password_is_rejected(slapd: SlapdServer) -> None:
    slapd.add(f"uid=bare,{PEOPLE}", "inetOrgPerson", {"cn": "bare", "sn": "bare"})
    assert rejected(ask(slapd, "bare")) is Reason.BAD_CREDENTIALS
    assert rejected(ask(slapd, "bare", **TEMPLATE)) is Reason.BAD_CREDENTIALS


def test_scope_and_base_say_where_people_are(slapd: SlapdServer) -> None:
    assert ask(slapd, scope="one_level") == ANN
    assert ask(slapd, base=BASE) == ANN
    assert rejected(ask(slapd, base=BASE, scope="one_level")) is Reason.BAD_CREDENTIALS
    found = ask(slapd, base=f"ou=nowhere,{BASE}")
    assert isinstance(found, Unavailable)
    assert "ldap.base" in found.detail


def test_unreadable_entry_is_an_outage(slapd: SlapdServer) -> None:
    slapd.add(f"uid=hidden,ou=policies,{BASE}", "inetOrgPerson", {"cn": "h", "sn": "h", "userPassword": PASSWORD})
    hidden = {**TEMPLATE, "user_dn": f"uid={{user}},ou=policies,{BASE}"}
    assert ask(slapd, "hidden", **hidden) == DirectoryEntry({"username": "hidden"})
    found = ask(slapd, "hidden", attributes=EVERYTHING, **hidden)
    assert isinstance(found, Unavailable)
    assert "cannot be read" in found.detail


# The password policy of OpenLDAP


@pytest.fixture
def policed(slapd: SlapdServer, request: pytest.FixtureRequest) -> str:
    name = f"policed{abs(hash(request.node.name))}"
    slapd.add_person(name)
    return name


@pytest.mark.parametrize("changes", [{}, TEMPLATE])
def test_locked_account_is_rejected(slapd: SlapdServer, policed: str, changes: dict[str, Any]) -> None:
    assert isinstance(ask(slapd, policed, **changes), DirectoryEntry)
    # The overlay counts by time, and two failures at one moment as one: a few more may be needed.
    reasons = [rejected(ask(slapd, policed, "wrong", **changes)) for _ in range(3)]
    while reasons[-1] is Reason.BAD_CREDENTIALS and len(reasons) < 10:
        reasons.append(rejected(ask(slapd, policed, "wrong", **changes)))
    assert reasons[:3] == [Reason.BAD_CREDENTIALS] * 3
    assert reasons[-1] is Reason.LOCKED_IN_DIRECTORY
    assert rejected(ask(slapd, policed, **changes)) is Reason.LOCKED_IN_DIRECTORY


def test_administratively_locked_account_is_rejected(slapd: SlapdServer, policed: str) -> None:
    assert isinstance(ask(slapd, policed), DirectoryEntry)
    slapd.change(f"uid={policed},{PEOPLE}", pwdAccountLockedTime="000001010000Z")
    assert rejected(ask(slapd, policed)) is Reason.LOCKED_IN_DIRECTORY


@pytest.mark.parametrize("changes", [{}, TEMPLATE])
def test_password_that_must_change_is_rejected(slapd: SlapdServer, policed: str, changes: dict[str, Any]) -> None:
    assert isinstance(ask(slapd, policed, **changes), DirectoryEntry)
    slapd.change(f"uid={policed},{PEOPLE}", pwdReset="TRUE")
    assert rejected(ask(slapd, policed, **changes)) is Reason.PASSWORD_MUST_CHANGE
    assert rejected(ask(slapd, policed, "wrong", **changes)) is Reason.BAD_CREDENTIALS


def test_expired_password_is_rejected(slapd: SlapdServer, policed: str) -> None:
    slapd.add(
        f"cn=short,ou=policies,{BASE}",
        ["device", "pwdPolicy"],
        {"cn": "short", "pwdAttribute": "userPassword", "pwdMaxAge": "1"},
    )
    assert isinstance(ask(slapd, policed), DirectoryEntry)
    slapd.change(f"uid={policed},{PEOPLE}", pwdPolicySubentry=f"cn=short,ou=policies,{BASE}")
    slapd.change(f"uid={policed},{PEOPLE}", pwdChangedTime="20200101000000Z")
    assert rejected(ask(slapd, policed)) is Reason.PASSWORD_EXPIRED
    assert rejected(ask(slapd, policed, "wrong")) is Reason.BAD_CREDENTIALS


# The service account


@pytest.mark.parametrize("changes", [{"bind_password": Secret("wr0ng")}, {"bind_dn": f"cn=nobody,{BASE}"}])
def test_wrong_service_account_is_an_outage(slapd: SlapdServer, changes: dict[str, Any]) -> None:
    found = ask(slapd, **changes)
    assert isinstance(found, Unavailable)
    assert found.reason is Reason.SERVER_ERROR
    assert "ldap.bind_dn" in found.detail
    assert "wr0ng" not in repr(found)
    assert ask(slapd) == ANN


def test_anonymous_search_respects_access_rules(slapd: SlapdServer) -> None:
    assert isinstance(ask(slapd, bind_dn="", bind_password=None), Unavailable)


# TLS


@pytest.mark.parametrize("ldaps", [True, False])
def test_server_certificate_is_verified(slapd: SlapdServer, ldaps: bool) -> None:
    own = slapd.authority
    port = slapd.tls_port if ldaps else slapd.port

    def by(host: str, ca_file: str) -> object:
        before = slapd.binds()
        found = ask(slapd, servers=(LdapServer(ldaps, host, port),), start_tls=True, ca_file=ca_file)
        if isinstance(found, Unavailable):
            assert slapd.binds() == before
        return found

    assert by("127.0.0.1", own) == ANN
    for host, ca_file in (("127.0.0.1", ""), ("localhost", own)):
        found = by(host, ca_file)
        assert isinstance(found, Unavailable)
        assert found.reason is Reason.UNREACHABLE
        assert "certificate is refused" in found.detail


# Many, and in bad company


def test_concurrent_logins_do_not_mix(slapd: SlapdServer) -> None:
    names = [f"many{place}" for place in range(50)]
    for name in names:
        slapd.add_person(name, f"the password of {name}", employeeNumber=name[4:])
    attributes = LdapAttributes(identity="employeeNumber")
    directory = LdapDirectory(slapd.settings(attributes=attributes, concurrent_calls=50))
    start = threading.Barrier(len(names))
    outcomes: dict[str, list[object]] = {}

    def log_in(name: str, other: str) -> None:
        start.wait(60)
        outcomes[name] = [
            directory.verify(name, f"the password of {other if wrong else name}") for wrong in (False, True, False)
        ]

    threads = [
        threading.Thread(target=log_in, args=(name, other))
        for name, other in zip(names, [*names[1:], names[0]], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for name in names:
        good = DirectoryEntry({"username": name, "identity": name[4:]})
        assert outcomes[name] == [good, Rejected(Reason.BAD_CREDENTIALS, "result 49"), good]
    directory.close()


def connections_of_ldap3() -> list[Any]:
    """Return those that are open and only read, as the directory's are and the administrator's are not."""
    return [one for one in gc.get_objects() if type(one) is ldap3.Connection and one.read_only and not one.closed]


def test_no_secret_shows_anywhere(slapd: SlapdServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = slapd.settings()
    before = connections_of_ldap3()
    directory = LdapDirectory(settings)
    outcomes = [directory.verify("ann", PASSWORD), directory.verify("ann", "wr0ngpass"), *directory.checks()]
    shown = repr([settings, directory, outcomes, caplog.text])
    assert all(secret not in shown for secret in (PASSWORD, SECRET, "wr0ngpass"))
    wires = [one for one in connections_of_ldap3() if not any(one is other for other in before)]
    assert len(wires) == 2
    for wire in wires:
        assert all(secret not in repr(vars(wire)) for secret in (PASSWORD, SECRET, "wr0ngpass"))
    directory.close()
    slapd.change(f"uid=ann,{PEOPLE}", userPassword=PASSWORD)
    slapd.change(f"uid=ann,{PEOPLE}", pwdReset="FALSE")


@pytest.mark.parametrize("key", ["filter", "group_filter"])
@pytest.mark.parametrize("text", ["(uid={user}", "(uid={user}))", "(&(uid={user})", "({user})", "(!(a={user})(b=c))"])
def test_invalid_filter_is_a_configuration_error(slapd: SlapdServer, key: str, text: str) -> None:
    changes: dict[str, Any] = {key: text}
    with pytest.raises(ConfigurationError, match=rf"^contact_centers\.acme\.configuration_server\.ldap\.{key}: "):
        LdapDirectory(slapd.settings(**changes), contact_center="acme")
