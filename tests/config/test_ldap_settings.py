"""The table of an LDAP directory: each refused value beside an accepted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer, Ldap, LdapAttributes

from .conftest import Load, Mapping, Refused

PATH = "contact_centers.acme.configuration_server"
LDAP = f"{PATH}.ldap"
SERVER = "ldaps://ldap.acme.example"
BASE = "ou=people,dc=acme,dc=example"
GROUP = "cn=cc-agents,ou=groups,dc=acme,dc=example"
LEAST = {"servers": [SERVER], "base": BASE}


def with_ldap(table: object = LEAST, **above: Any) -> Mapping:
    return {"contact_centers": {"acme": {"configuration_server": {"directory": "ldap", "ldap": table, **above}}}}


def changed(**changes: Any) -> Mapping:
    return with_ldap({key: value for key, value in {**LEAST, **changes}.items() if value is not None})


def at(load: Load, mapping: Mapping) -> Ldap:
    found = load(mapping).contact_centers["acme"].configuration_server
    assert isinstance(found, ConfigurationServer)
    assert found.ldap is not None
    return found.ldap


def test_servers_and_base_are_enough(load: Load) -> None:
    assert at(load, with_ldap()) == Ldap(servers=(LdapServer(True, "ldap.acme.example", 636),), base=BASE)
    template = {"servers": [SERVER], "user_dn": f"uid={{user}},{BASE}"}
    assert at(load, with_ldap(template)).user_dn == f"uid={{user}},{BASE}"


def test_every_ldap_key_is_read(load: Load, folder: Path) -> None:
    (folder / "password").write_text("s3cret\n")
    found = at(
        load,
        changed(
            servers=["LDAP://LDAP.acme.example", "ldap://127.0.0.1:3389/", "ldaps://[::1]"],
            scope="one_level",
            filter="(|(uid={user})(mail={user}))",
            bind_dn="portal@acme.example",
            bind_password={"file": "password"},
            attributes={
                "username": "cn",
                "identity": "objectGUID",
                "groups": "memberOf",
                "email": "2.5.4.3",
            },
            group_base="ou=groups,dc=acme,dc=example",
            group_filter="(member:1.2.840.113556.1.4.1941:={dn})",
            role_map={GROUP.upper(): "ROLE_AGENT", "staff": "ROLE_STAFF"},
            sync_roles=True,
        ),
    )
    assert [str(server) for server in found.servers] == [
        "ldap://ldap.acme.example:389",
        "ldap://127.0.0.1:3389",
        "ldaps://[::1]:636",
    ]
    assert found.bind_password == Secret("s3cret")
    assert "s3cret" not in repr(found)
    assert dict(found.role_map) == {GROUP: "ROLE_AGENT", "staff": "ROLE_STAFF"}
    assert found.attributes == LdapAttributes(username="cn", identity="objectGUID", groups="memberOf", email="2.5.4.3")


@pytest.mark.parametrize(
    ("changes", "key", "finding"),
    [
        ({"servers": None}, "servers", "is required"),
        ({"servers": []}, "servers", "is required"),
        ({"servers": ["https://ldap.acme.example"]}, "servers.0", "ldaps://"),
        ({"servers": ["ldap.acme.example"]}, "servers.0", "ldaps://"),
        ({"servers": ["ldaps://ann@ldap.acme.example"]}, "servers.0", "host"),
        ({"servers": ["ldaps://ldap.acme.example/dc=acme"]}, "servers.0", "host"),
        ({"servers": ["ldaps://ldap.acme.example:0"]}, "servers.0", "port"),
        ({"base": None}, "", "requires user_dn"),
        ({"base": "people"}, "base", "distinguished name"),
        ({"base": f"{BASE};x"}, "base", "distinguished name"),
        ({"user_dn": f"uid={{user}},{BASE}"}, "base", "is not used with user_dn"),
        ({"base": None, "user_dn": "{user}@acme.example"}, "user_dn", "{user} as one whole value"),
        ({"base": None, "user_dn": f"uid=x{{user}},{BASE}"}, "user_dn", "{user} as one whole value"),
        ({"base": None, "user_dn": f"uid=ann,{BASE}"}, "user_dn", "{user} as one whole value"),
        ({"base": None, "user_dn": f"uid={{user}},cn={{user}},{BASE}"}, "user_dn", "{user} as one whole value"),
        (
            {"base": None, "user_dn": f"uid={{user}},{BASE}", "filter": "(uid={user})"},
            "filter",
            "is not used with user_dn",
        ),
        ({"base": None, "user_dn": f"uid={{user}},{BASE}", "scope": "subtree"}, "scope", "is not used with user_dn"),
        ({"filter": "uid={user}"}, "filter", "parentheses"),
        ({"filter": "(uid=ann)"}, "filter", "must contain {user}"),
        ({"filter": ""}, "filter", "must not be empty"),
        ({"group_filter": "(member=ann)", "group_base": BASE}, "group_filter", "must contain {user}"),
        ({"group_filter": "(member={dn})"}, "group_base", "with group_filter"),
        ({"scope": "base"}, "scope", '"subtree" or "one_level"'),
        ({"bind_dn": "cn=portal"}, "bind_password", "with bind_dn"),
        ({"bind_password": "s3cret"}, "bind_dn", "with bind_password"),
        ({"bind_dn": "cn=portal", "bind_password": ""}, "bind_password", "is empty"),
        ({"attributes": {"username": "a b"}}, "attributes.username", "LDAP attribute"),
        ({"attributes": {"usernam": "uid"}}, "attributes.usernam", "did you mean username"),
        ({"attributes": {"username": ""}}, "attributes.username", 'match = "username"'),
        ({"role_map": {GROUP: "ROLE_AGENT"}, "group_base": BASE}, "sync_roles", "must be true"),
        ({"sync_roles": True}, "role_map", "with sync_roles"),
        ({"role_map": {GROUP: "ROLE_AGENT"}, "sync_roles": True}, "attributes.groups", "unless group_base is set"),
        (
            {"role_map": {GROUP: "ROLE_A", GROUP.upper(): "ROLE_B"}, "sync_roles": True, "group_base": BASE},
            "role_map",
            "two roles to the same group",
        ),
        ({"role_map": {GROUP: "A ROLE"}}, f"role_map.{GROUP}", "role"),
        ({"start_tls": "yes"}, "start_tls", "true or false"),
        ({"allow_http": True}, "allow_http", "is not a known key"),
    ],
)
def test_wrong_values_are_reported_at_their_keys(
    load: Load, refused: Refused, changes: dict[str, Any], key: str, finding: str
) -> None:
    problems = refused(changed(**changes))
    here = [problem for problem in problems if problem.startswith(f"{LDAP}.{key}: " if key else f"{LDAP}: ")]
    assert here, problems
    assert any(finding in problem for problem in here), here
    assert "s3cret" not in repr(problems)
    assert at(load, changed()).base == BASE


def test_unknown_ldap_key_names_the_nearest(refused: Refused) -> None:
    (problem,) = refused(changed(serves=[SERVER]))
    assert problem.startswith(f"{LDAP}.serves: is not a known key")
    assert "servers" in problem


@pytest.mark.parametrize("key", ["login_name", "cme_user_name", "identity"])
def test_matched_attribute_is_required(load: Load, refused: Refused, key: str) -> None:
    assert refused(with_ldap(match=key)) == [f'{LDAP}.attributes.{key}: is required with match = "{key}"']
    assert getattr(at(load, with_ldap({**LEAST, "attributes": {key: "cn"}}, match=key)).attributes, key) == "cn"


def test_plain_ldap_to_another_host_needs_allow_plain(load: Load, refused: Refused) -> None:
    plain = {"servers": [SERVER, "ldap://ldap.acme.example"], "start_tls": False}
    (problem,) = refused(changed(**plain))
    assert problem.startswith(f"{LDAP}.servers: ldap://ldap.acme.example:389 is plain LDAP")
    assert not at(load, changed(**plain, allow_plain=True)).start_tls
    assert at(load, changed(servers=["ldap://ldap.acme.example"])).start_tls
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert not at(load, changed(servers=[f"ldap://{host}"], start_tls=False)).start_tls
    assert refused(changed(servers=["ldap://127.0.0.1.acme.example"], start_tls=False))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "https://gws.internal"),
        ("client_id", "portal"),
        ("client_secret", "s3cret"),
        ("contact_center_id", "cc-1"),
        ("proxy", "http://proxy.acme.example:3128"),
    ],
)
def test_keys_of_genesys_are_refused_with_ldap(refused: Refused, key: str, value: str) -> None:
    assert refused(with_ldap(**{key: value})) == [f'{PATH}.{key}: is not used with directory = "ldap": remove it']


def test_ldap_table_requires_an_ldap_directory(load: Load, refused: Refused) -> None:
    assert refused(with_ldap(directory="acme.staff:Directory")) == [
        f'{LDAP}: requires directory = "ldap": set it, or remove this table'
    ]
    mapping = with_ldap()
    del mapping["contact_centers"]["acme"]["configuration_server"]["ldap"]
    assert f"{LDAP}.servers: is required" in refused(mapping)
    mapping = with_ldap(enabled=False)
    assert load(mapping).contact_centers["acme"].configuration_server is None
