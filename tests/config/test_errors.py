"""Each wrong value gives an error with its dotted path; the same configuration without it is accepted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.errors import ConfigurationError

from .conftest import Load, Mapping, Refused

CENTER = "contact_centers.acme"
TABLES = ["", "salesforce_headers", "session", "passwords", "throttle", "contact_centers", CENTER]
TABLES += [f"{CENTER}.{step}" for step in ("salesforce", "configuration_server", "web_services", "saml")]
TABLES += [f"{CENTER}.saml.identity_providers", f"{CENTER}.saml.identity_providers.okta"]


def changed(mapping: Mapping, path: str, value: object) -> Mapping:
    """Return the mapping with another value at a dotted path."""
    copied = copy.deepcopy(mapping)
    *above, last = path.split(".")
    table: Any = copied
    for key in above:
        table = table[key]
    table[last] = value
    return copied


def without(mapping: Mapping, path: str) -> Mapping:
    copied = copy.deepcopy(mapping)
    *above, last = path.split(".")
    table: Any = copied
    for key in above:
        table = table[key]
    del table[last]
    return copied


TEXT = "must be text, not a number: put it in quotes"
ADDRESS = "must be a URL such as https://portal.acme.example"
HOST = "must be a host name of ASCII letters, digits, dots and hyphens (international names as xn--...)"
LIMIT = 'must be one limit such as "10 per 5 minutes" (at most 1,000,000 in 366 days)'
ID = "must be a Salesforce organization id of 15 characters, or of 18 with the right checksum"
REDIS_AUTHORITIES = "ssl_ca_certs must name a readable file of certificates in PEM"
REDIS_OPTION = (
    'accepts one option, with rediss:// only: "?ssl_ca_certs=/absolute/path", the certificate authorities to trust '
    "in addition to the system's; the path must not contain % or +"
)
STATE = (
    'must be "memory://", a SQLite URL such as "sqlite:///state.sqlite3", a PostgreSQL URL such as '
    '"postgresql+psycopg://user@db.internal/portal", or a Redis URL such as "redis://redis.internal:6379/0"'
)
CLASS = 'must be of the form "package.module:Class"'
PREFIX = 'must be a path such as "/saml", of letters, digits, hyphens, underscores, tildes and dots'
PLAIN_HTTP = "is plain http and could leave the machine: use https, or set allow_http = true in the same table"
SECRET = 'must be text, {file = "path"} or {env = "NAME"}'
NAME = "this name must be at most 64 letters, digits, hyphens, underscores and dots, and begin with a letter or digit"
PATH = "must not have a path with //, . or .. segments, spaces or percent-encoding"
SF = f"{CENTER}.salesforce"
CS = f"{CENTER}.configuration_server"
IDP = f"{CENTER}.saml.identity_providers.okta"

WRONG: list[tuple[str, object, str]] = [
    ("public_url", 5, TEXT),
    ("public_url", None, "must not be null: remove the key to use the default"),
    ("public_url", "portal.acme.example", ADDRESS),
    ("public_url", "ftp://portal.acme.example", ADDRESS),
    ("public_url", "https://", HOST),
    ("public_url", "https://portal.acme.example?x", "must not have a query (?) or a fragment (#)"),
    ("public_url", "https://portal.acme.example/#x", "must not have a query (?) or a fragment (#)"),
    ("public_url", "https://u:p@portal.acme.example", "must not contain a user name or a password"),
    ("public_url", "https://portal.acme.example:x", "must name a host and, after a colon, at most a port number"),
    ("public_url", "https://portal.acme.example:70000", "must have a port from 1 to 65535"),
    ("public_url", "https://portal.acme.example:0", "must have a port from 1 to 65535"),
    ("public_url", "https://p\xf6rtal.example", HOST),
    ("public_url", "https://portal.acme.example/a//b", PATH),
    ("public_url", "https://portal.acme.example/a/../b", PATH),
    ("public_url", "https://portal.acme.example\\@evil.example", "must not contain a user name or a password"),
    ("public_url", "https://portal.acme.example\\evil.example", HOST),
    ("public_url", "https://[::1%25eth0]", "must have an IPv6 address without a zone in its brackets"),
    ("public_url", "https://[fe80::1%eth0]", "must have an IPv6 address without a zone in its brackets"),
    ("public_url", " https://portal.acme.example", "must not begin or end with white space"),
    ("public_url", "https://portal.acme.example\n", "must not contain control characters"),
    ("public_url", "https://" + "a." * 600, "must be at most 1024 characters, not 1208"),
    ("public_url", "http://portal.acme.example", f"http://portal.acme.example {PLAIN_HTTP}"),
    ("default_contact_center", "acne", "is not the name of a contact center; did you mean acme?"),
    ("default_contact_center", "zzz", "is not the name of a contact center: use acme or beta"),
    ("base_path", "", "must not be empty"),
    ("base_path", 1, TEXT),
    ("state_url", "", "must not be empty"),
    ("state_url", "memory://x", STATE),
    ("state_url", "redis://", STATE),
    ("state_url", "redis://localhost:port", STATE),
    ("state_url", "redis://localhost/name", STATE),
    ("state_url", "redis://localhost/0?socket_timeout=0", REDIS_OPTION),
    ("state_url", "rediss://localhost/0?ssl_cert_reqs=none", REDIS_OPTION),
    ("state_url", "rediss://localhost/0?ssl_ca_certs=ca.pem", REDIS_OPTION),
    ("state_url", "rediss://localhost/0?ssl_ca_certs=/a&ssl_cert_reqs=none", REDIS_OPTION),
    ("state_url", "redis://localhost/0?ssl_ca_certs=/nowhere/ca.pem", REDIS_OPTION),
    (
        "state_url",
        "rediss://localhost/0?ssl_ca_certs=/nowhere/ca.pem",
        REDIS_AUTHORITIES,
    ),
    ("state_url", "rediss://localhost/0?ssl_ca_certs=/a%20b", REDIS_OPTION),
    ("state_url", "rediss://localhost/0?ssl_ca_certs=/a+b", REDIS_OPTION),
    ("state_url", "rediss://localhost/0?ssl_ca_certs=/a\0b", "must not contain control characters"),
    ("state_url", "rediss://localhost/0#x", STATE),
    ("state_url", "rediss://[::1", STATE),
    ("state_url", "redis+socket://localhost", STATE),
    ("state_url", "postgresql+psycopg://u:p@localhost", STATE),
    ("state_url", "postgresql://u:p@localhost/db", STATE),
    ("state_url", "postgresql+psycopg_async://u:p@localhost/db", STATE),
    ("state_url", "sqlite://", STATE),
    ("state_url", "sqlite:///:memory:", STATE),
    ("state_url", "sqlite:///file:x?uri=true", STATE),
    ("state_url", "sqlite://u:p@host/x", STATE),
    ("state_url", "state.sqlite3", STATE),
    ("state_url", "postgresql://u:p@h:port/d", STATE),
    ("state_namespace", "a:b", "must be at most 100 characters without a colon"),
    ("state_timeout", 0, "must be above 0 and at most 60 seconds, not 0"),
    ("state_timeout", -1, "must be above 0 and at most 60 seconds, not -1"),
    ("state_timeout", 61, "must be above 0 and at most 60 seconds, not 61"),
    ("state_timeout", 10**400, "must be above 0 and at most 60 seconds, not a number"),
    ("state_timeout", float("inf"), "must be above 0 and at most 60 seconds, not a number"),
    ("state_timeout", float("nan"), "must be above 0 and at most 60 seconds, not nan"),
    ("state_timeout", True, "must be a number of seconds without quotes, not true or false"),
    ("state_timeout", "1.0", "must be a number of seconds without quotes, not text"),
    ("accounts_url", "accounts.sqlite3", 'must be a SQLAlchemy URL such as "sqlite:///accounts.sqlite3"'),
    (
        "accounts_url",
        "nosuch://x",
        "names a database or a driver that SQLAlchemy does not know: correct the part before ://",
    ),
    (
        "accounts_url",
        "sqlite+json:///x",
        "names a database or a driver that SQLAlchemy does not know: correct the part before ://",
    ),
    (
        "accounts_url",
        "mssql+pymssql://u:p@h/d",
        "names a driver that is not installed: install the package of mssql+pymssql",
    ),
    ("accounts_url", "sqlite+aiosqlite:///x", "must name a synchronous driver, not sqlite+aiosqlite"),
    ("extra_steps", "a.b:C", 'must be a list such as ["..."], not text'),
    ("extra_steps", {"a": 1}, 'must be a list such as ["..."], not a table'),
    ("protect_by_default", "false", "must be true or false in lower case without quotes, not text"),
    ("protect_by_default", 0, "must be true or false in lower case without quotes, not 0"),
    ("unauthenticated_status", 404, "must be 401 or 403, not 404"),
    ("unauthenticated_status", "401", "must be 401 or 403, not text"),
    ("unauthenticated_status", 401.0, "must be 401 or 403, not 401.0"),
    ("saml_url_prefix", "/", PREFIX),
    ("saml_url_prefix", "/a/../b", PREFIX),
    ("saml_url_prefix", "/a b", PREFIX),
    ("saml_url_prefix", "/<cc>", PREFIX),
    ("login_view", 7, TEXT),
    ("salesforce_headers.session", "", "must not be empty"),
    ("salesforce_headers.session", "s s", "must be the name of a header, such as X-Session (RFC 9110 5.1)"),
    ("salesforce_headers.session", "cookie", "is a header with another purpose: choose another header"),
    ("salesforce_headers", {"session": "surl"}, "session and identity must name two different headers"),
    ("session", [], "must be a table"),
    ("session.idle_timeout", 0, "must be from 1 to 31622400 seconds, not 0"),
    ("session.idle_timeout", 1800.0, "must be a whole number without quotes, not 1800.0"),
    ("session.idle_timeout", float("nan"), "must be a whole number without quotes, not nan"),
    ("session.idle_timeout", "1800", "must be a whole number without quotes, not text"),
    ("session.idle_timeout", True, "must be a whole number without quotes, not true or false"),
    ("session.revocation_delay", -0.1, "must be from 0 to 60 seconds, not -0.1"),
    ("session.revocation_delay", 60.1, "must be from 0 to 60 seconds, not 60.1"),
    ("session.revocation_delay", float("nan"), "must be from 0 to 60 seconds, not nan"),
    ("session.revocation_delay", "2", "must be a number of seconds without quotes, not text"),
    ("passwords.memory_kib", 15, "must be at least 16, not 15: 8 for each of the lanes (RFC 9106 3.1)"),
    ("passwords.memory_kib", 1048577, "must be from 8 to 1048576 KiB, not 1048577"),
    ("passwords.iterations", 0, "must be from 1 to 64, not 0"),
    ("passwords.iterations", 65, "must be from 1 to 64, not 65"),
    ("passwords.lanes", 65, "must be from 1 to 64, not 65"),
    ("passwords.reuse_verified_for", -1, "must be from 0 to 86400 seconds, not -1"),
    ("throttle.per_account", "ten", LIMIT),
    ("throttle.per_account", "", "must not be empty"),
    ("throttle.per_account", "0 per minute", LIMIT),
    ("throttle.per_account", "1 per 1000 years", LIMIT),
    ("throttle.per_account", "1 per minute; 5 per hour", LIMIT),
    ("throttle.per_address", "9" * 900 + " per minute", LIMIT),
    (
        "throttle.storage_url",
        "sqlite:///t.sqlite3",
        'must be "memory://", or a Redis URL such as "redis://redis.internal:6379/0"',
    ),
    (
        "throttle.storage_url",
        "redis://:x",
        'must be "memory://", or a Redis URL such as "redis://redis.internal:6379/0"',
    ),
    ("throttle.fallback", "no", "must be true or false in lower case without quotes, not text"),
    ("contact_centers", {}, "is required: add a table [GENESYS_AUTH.contact_centers.NAME] for each contact center"),
    ("contact_centers", [], "must be a table of tables, not a list"),
    ("contact_centers.a b", {}, NAME),
    ("contact_centers.-a", {}, NAME),
    ("contact_centers." + "a" * 65, {}, NAME),
    ("contact_centers.acme/x", {}, NAME),
    (
        "contact_centers.ACME",
        {},
        "differs from contact_centers.acme in upper and lower case only: rename one of the two",
    ),
    ("contact_centers.beta", "x", "must be a table"),
    ("contact_centers.beta.id", "acme 7", f"'acme 7' already belongs to {CENTER}: remove it from one of the two"),
    (
        "contact_centers.beta.hosts",
        ["portal.ACME.example"],
        f"'portal.acme.example' already belongs to {CENTER}: remove it from one of the two",
    ),
    (
        "contact_centers.beta.domains",
        ["Acme.example"],
        f"'acme.example' already belongs to {CENTER}: remove it from one of the two",
    ),
    ("contact_centers.beta.realms", ["Acme"], f"'acme' already belongs to {CENTER}: remove it from one of the two"),
    (f"{CENTER}.id", "\xe4", "must be ASCII, because a header carries it"),
    (f"{CENTER}.domains", "acme.example", 'must be a list such as ["..."], not text'),
    (f"{SF}.organizations", [], "is required"),
    (f"{SF}.identity_hosts", [], 'must name at least one host, such as "login.salesforce.com"'),
    (f"{SF}.match", "user_name", 'must be "username", "email" or "identity"'),
    (f"{SF}.timeout", 0, "must be above 0 and at most 60 seconds, not 0"),
    (f"{CS}.directory", "ldapx", 'must be "genesys", "ldap" or "package.module:Class"'),
    (f"{CS}.url", "", "is required"),
    (f"{CS}.url", "http://gws.internal", f"http://gws.internal {PLAIN_HTTP}"),
    (f"{CS}.client_id", "", "is required"),
    (f"{CS}.client_secret", 5, f"{SECRET}, not a number: put it in quotes"),
    (f"{CS}.client_secret", [], f"{SECRET}, not a list"),
    (f"{CS}.client_secret", {}, f"{SECRET}: the table must have exactly one of these keys"),
    (f"{CS}.client_secret", {"file": "a", "env": "B"}, f"{SECRET}: the table must have exactly one of these keys"),
    (f"{CS}.client_secret", {"path": "a"}, f"{SECRET}: the table must have exactly one of these keys"),
    (f"{CS}.client_secret", {"file": 5}, TEXT),
    (f"{CS}.client_secret", {"env": ""}, "must not be empty"),
    (f"{CS}.client_secret", "", "the secret is empty"),
    (f"{CS}.client_secret", " \n", "the secret is empty"),
    (f"{CS}.client_secret", "\ud800", "the secret is not UTF-8 text"),
    (f"{CS}.tenant", "A\\B", "must not contain a backslash"),
    (f"{CS}.tenant", "", "must not be empty"),
    (f"{CS}.match", "email", 'must be "username", "login_name", "cme_user_name" or "identity"'),
    (f"{CS}.max_failures", "often", LIMIT),
    (f"{CENTER}.web_services", True, "must be a table"),
    (f"{CENTER}.saml.entity_id", "my sp", "must not contain white space"),
    (f"{CENTER}.saml.clock_skew", -1, "must be from 0 to 600 seconds, not -1"),
    (
        f"{CENTER}.saml.signing_key",
        "no pem",
        "must be a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)",
    ),
    (
        f"{CENTER}.saml.signing_certificate",
        {"file": "sp.key"},
        "must be exactly one certificate in PEM, without a private key or any other text",
    ),
    (
        f"{CENTER}.saml.identity_providers",
        {},
        f"is required: add a table [GENESYS_AUTH.{CENTER}.saml.identity_providers.NAME] for each identity provider",
    ),
    (f"{IDP}.match", "mail", 'must be "name_id" or "attribute:NAME"'),
    (f"{IDP}.match", "attribute:", 'must be "name_id" or "attribute:NAME"'),
    (f"{IDP}.name_id_format", "a b", "must not contain white space"),
]

WRONG_ENTRIES: list[tuple[str, object, str]] = [
    ("extra_steps", "a.b", CLASS),
    ("extra_steps", "a.b:c d", CLASS),
    ("extra_steps", ".a:B", CLASS),
    ("extra_steps", 3, TEXT),
    ("extra_steps", "", "must not be empty"),
    ("unprotected_endpoints", None, "must be text, not null"),
    (f"{CENTER}.hosts", "https://a.example", "must be a host such as portal.acme.example, without a scheme or a path"),
    (f"{CENTER}.hosts", "a_b.example", HOST),
    (f"{CENTER}.hosts", "a.example:x", "must name a host and, after a colon, at most a port number"),
    (f"{CENTER}.domains", "@acme.example", "must be the part after the @, such as acme.example"),
    (f"{CENTER}.realms", "ACME\\", "must be the part before the backslash, such as ACME"),
    (f"{CENTER}.allowed_origins", "*", ADDRESS),
    (f"{CENTER}.allowed_origins", "null", ADDRESS),
    (
        f"{CENTER}.allowed_origins",
        "https://a.example/",
        "must be an origin such as https://app.acme.example, without a path or a trailing slash",
    ),
    (f"{SF}.organizations", "00D0000000000", ID),
    (f"{SF}.organizations", "00D000000000001AAA", ID),
    (f"{SF}.organizations", "005000000000001", "must begin with 00D, like every organization id"),
    (f"{SF}.identity_hosts", ".salesforce.com", "must be a full host name: only redirect_hosts accepts a leading dot"),
    (
        f"{SF}.identity_hosts",
        "login.salesforce.com:443",
        "must be a host such as login.salesforce.com, or an origin such as http://127.0.0.1:5002",
    ),
    (f"{SF}.identity_hosts", "https://login.salesforce.com/id", "must not have a path"),
    (f"{SF}.identity_hosts", "https://login.salesforce.com:8443", "must use port 443, not 8443"),
    (f"{SF}.redirect_hosts", ".com", "must have at least two labels after the dot, such as .my.salesforce.com"),
    (f"{SF}.redirect_hosts", "*.salesforce.com", HOST),
    (f"{IDP}.email_domains", "ann@acme.example", "must be the part after the @, such as acme.example"),
]


@pytest.mark.parametrize(("path", "value", "finding"), WRONG)
def test_wrong_value_is_reported_with_its_path(
    load: Load, refused: Refused, full: Mapping, path: str, value: object, finding: str
) -> None:
    problems = refused(changed(full, path, value))
    assert [problem for problem in problems if problem.startswith(path)] == [f"{path}: {finding}"]
    assert load(full).contact_centers


@pytest.mark.parametrize(("path", "entry", "finding"), WRONG_ENTRIES)
def test_wrong_list_entry_is_reported_with_its_index(
    refused: Refused, full: Mapping, path: str, entry: object, finding: str
) -> None:
    assert refused(changed(full, path, [entry])) == [f"{path}.0: {finding}"]


@pytest.mark.parametrize("table", TABLES)
def test_value_in_place_of_a_table_is_refused(load: Load, refused: Refused, full: Mapping, table: str) -> None:
    wrong: list[object] = ["text", 5, [], None]
    for value in wrong:
        problems = refused(changed(full, table, value) if table else value)
        assert problems
        assert all(problem.startswith((table or "GENESYS_AUTH", "default_contact_center")) for problem in problems)
    assert load(full).contact_centers


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table not in {"contact_centers", f"{CENTER}.saml.identity_providers"}]
)
def test_unknown_key_is_refused_in_every_table(refused: Refused, full: Mapping, table: str) -> None:
    path = f"{table}.zzzzzz".lstrip(".")
    assert refused(changed(full, path, 1)) == [f"{path}: is not a known key: remove it"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("public_ur", "public_url"),
        ("Public_Url", "public_url"),
        ("PUBLIC-URL", "public_url"),
        ("contact_centres", "contact_centers"),
        ("session.idle_timout", "idle_timeout"),
        (f"{SF}.organisations", "organizations"),
        (f"{CENTER}.sam", "saml"),
        (f"{IDP}.email_domain", "email_domains"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(refused: Refused, full: Mapping, path: str, near: str) -> None:
    assert refused(changed(full, path, 1)) == [f"{path}: is not a known key; did you mean {near}?"]


def test_keys_other_than_text_are_refused(refused: Refused, full: Mapping) -> None:
    unknown = "<int>: is not a known key: remove it"
    mapping: dict[object, object] = {5: 1, 10**5000: 2, ("a",): 3}
    mapping.update(full)
    assert refused(mapping) == [unknown, unknown, "<tuple>: is not a known key: remove it"]
    full["contact_centers"][5] = {}
    assert refused(full) == ["contact_centers.<int>: this name must be text, not a number: put it in quotes"]


def test_long_and_unprintable_keys_are_shortened(refused: Refused, full: Mapping) -> None:
    first, second = refused({**full, "x" * 500: 1, "a\x1b[31m\n": 2})
    assert first == f"'{'x' * 79}...: is not a known key: remove it"
    assert second == r"'a\x1b[31m\n': is not a known key: remove it"


@pytest.mark.parametrize(
    "path",
    [f"{SF}.organizations", f"{CS}.url", f"{CS}.client_id", f"{CS}.client_secret", f"{IDP}.metadata"],
)
def test_required_keys_of_a_step(refused: Refused, full: Mapping, path: str) -> None:
    assert refused(without(full, path)) == [f"{path}: is required"]


def test_signing_key_and_certificate_require_each_other(load: Load, refused: Refused, full: Mapping) -> None:
    key, certificate = f"{CENTER}.saml.signing_key", f"{CENTER}.saml.signing_certificate"
    assert refused(without(full, certificate)) == [f"{certificate}: is required with signing_key"]
    assert refused(without(full, key)) == [f"{key}: is required with signing_certificate"]
    assert load(without(without(full, key), certificate)).contact_centers["acme"].saml is not None


def test_key_with_a_passphrase_is_refused(refused: Refused, full: Mapping) -> None:
    pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"
    path = f"{CENTER}.saml.signing_key"
    assert refused(changed(full, path, pem)) == [
        f"{path}: must be a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)"
    ]


def test_certificate_followed_by_a_key_is_refused(refused: Refused, full: Mapping, key_pair: tuple[str, str]) -> None:
    path = f"{CENTER}.saml.signing_certificate"
    assert refused(changed(full, path, key_pair[1] + key_pair[0])) == [
        f"{path}: must be exactly one certificate in PEM, without a private key or any other text"
    ]


@pytest.mark.parametrize(
    "name", ["salesforce", "configuration_server", "web_services", "login_session", "saml", "SAML"]
)
def test_provider_cannot_have_the_name_of_a_step(refused: Refused, full: Mapping, name: str) -> None:
    path = f"{CENTER}.saml.identity_providers"
    assert refused(changed(full, path, {name: {"metadata": "idp.xml"}})) == [
        f"{path}.{name}: this name is the name of a step: choose another name"
    ]


def test_metadata_file_must_exist_and_be_readable(folder: Path, refused: Refused, full: Mapping) -> None:
    path = f"{IDP}.metadata"
    assert refused(changed(full, path, "gone.xml")) == [
        f"{path}: the file {folder}/gone.xml does not exist: create it, or correct the path"
    ]
    assert refused(changed(full, path, ".")) == [f"{path}: {folder} is not a file: correct the path"]
    long = "x" * 300
    assert refused(changed(full, path, long)) == [f"{path}: {folder}/{long} cannot be read: File name too long"]


def test_organization_in_two_contact_centers_is_refused(refused: Refused, full: Mapping) -> None:
    organizations = {"organizations": ["00D000000000001EAA"]}
    path = "contact_centers.beta.salesforce"
    assert refused(changed(full, path, organizations)) == [
        f"{path}.organizations: '00D000000000001' already belongs to {CENTER}: remove it from one of the two"
    ]


def test_id_equal_to_another_name_is_refused(refused: Refused, full: Mapping) -> None:
    assert refused(changed(full, f"{CENTER}.id", "beta")) == [
        f"contact_centers.beta.id: 'beta' already belongs to {CENTER}: remove it from one of the two"
    ]


def test_invalid_application_name_requires_a_namespace(folder: Path, full: Mapping) -> None:
    nameless = without(full, "state_namespace")
    with pytest.raises(ConfigurationError, match="state_namespace: must be set"):
        load_settings(nameless, base_path=folder, app_name="a:b")
    assert load_settings(full, base_path=folder, app_name="a:b").state_namespace == "portal-1"


def test_path_with_question_mark_is_never_cut(tmp_path: Path) -> None:
    folder = tmp_path / "what? 100%"
    mapping: Mapping = {"contact_centers": {"acme": {}}}
    if make_url("sqlite:///what%3F").database == "what?":  # SQLAlchemy 2.1 and later can write such an address
        settings = load_settings(mapping, base_path=folder, app_name="portal")
        assert make_url(settings.state_url).database == str(folder / "state.sqlite3")
    else:
        with pytest.raises(ConfigurationError, match=r"state_url: .* remove the question marks"):
            load_settings(mapping, base_path=folder, app_name="portal")


def test_every_problem_is_reported_at_once(refused: Refused) -> None:
    mapping: Mapping = {
        "public_ur": 1,
        "public_url": 5,
        "state_timeout": 0,
        "contact_centers": {
            "acme": {
                "hosts": ["a/b"],
                "salesforce": {"timeout": "x", "identity_hosts": ["http://sf.internal"]},
                "saml": {"signing_key": {"file": "gone"}, "identity_providers": {"saml": {}}},
            },
            "beta": {"id": "acme"},
            "a b": {},
        },
    }
    assert sorted(problem.partition(":")[0] for problem in refused(mapping)) == sorted(
        [
            "public_ur",
            "public_url",
            "state_timeout",
            f"{CENTER}.hosts.0",
            f"{CENTER}.salesforce.timeout",
            f"{CENTER}.salesforce.organizations",
            f"{CENTER}.salesforce.identity_hosts",
            f"{CENTER}.saml.signing_key",
            f"{CENTER}.saml.signing_certificate",
            f"{CENTER}.saml.identity_providers.saml",
            f"{CENTER}.public_url",
            "contact_centers.beta.id",
            "contact_centers.a b",
        ]
    )


@pytest.mark.parametrize("mapping", [None, 5, "text", [], [("contact_centers", {})]])
def test_configuration_must_be_a_table(refused: Refused, mapping: object) -> None:
    assert refused(mapping) == ["GENESYS_AUTH: must be a table"]


def test_empty_configuration_requires_contact_centers(refused: Refused) -> None:
    assert refused({}) == [
        "contact_centers: is required: add a table [GENESYS_AUTH.contact_centers.NAME] for each contact center"
    ]
