"""Every key, every default, and the normal form of each value."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from flask_genesys_auth.config.addresses import AllowedHost
from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import (
    ConfigurationServer,
    ContactCenterSettings,
    IdentityProvider,
    PasswordSettings,
    Salesforce,
    SalesforceHeaders,
    Saml,
    SessionSettings,
    Settings,
    ThrottleSettings,
    WebServices,
)
from flask_genesys_auth.errors import ConfigurationError

from .conftest import Load, Mapping, Refused


def test_one_table_is_enough(folder: Path, load: Load) -> None:
    assert load({"contact_centers": {"acme": {"web_services": {}}}}) == Settings(
        contact_centers={"acme": ContactCenterSettings("acme", "acme", web_services=WebServices())},
        base_path=folder,
        state_url=f"sqlite:///{folder}/state.sqlite3",
        state_namespace="portal",
        accounts_url=f"sqlite:///{folder}/accounts.sqlite3",
    )


def test_every_key_is_read(folder: Path, load: Load, full: Mapping, key_pair: tuple[str, str]) -> None:
    acme = ContactCenterSettings(
        name="acme",
        id="acme 7",
        hosts=frozenset({"portal.acme.example", "portal.acme.example:8443", "[::1]", "[::1]:5000"}),
        domains=frozenset({"acme.example"}),
        realms=frozenset({"acme"}),
        public_url="https://portal.acme.example/cc",
        allowed_origins=frozenset({"https://acme.lightning.force.com", "http://127.0.0.1:3000"}),
        salesforce=Salesforce(
            organizations=frozenset({"00D000000000001", "00D000000000002"}),
            identity_hosts=(AllowedHost("login.salesforce.com"), AllowedHost("test.salesforce.com")),
            redirect_hosts=(
                AllowedHost(".my.salesforce.com"),
                AllowedHost("127.0.0.1", "http", 5002),
                AllowedHost("::1", "http", 5002),
            ),
            match="email",
            timeout=2,
            reuse_verified_for=30,
        ),
        configuration_server=ConfigurationServer(
            url="https://gws.internal/base",
            client_id="portal",
            client_secret=Secret("cl13nt-s3cret"),
            tenant="Production",
            contact_center_id="cc-1",
            match="login_name",
            max_failures="1 per hour",
            timeout=1.5,
            reuse_verified_for=0,
        ),
        web_services=WebServices(),
        saml=Saml(
            identity_providers={
                "okta": IdentityProvider(
                    name="okta",
                    metadata=folder / "idp.xml",
                    entity_id="https://idp.example",
                    match="attribute:mail",
                    email_domains=frozenset({"acme.example"}),
                    name_id_format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
                    want_response_signed=True,
                )
            },
            entity_id="https://portal.acme.example/sp",
            signing_key=Secret(key_pair[0].removesuffix("\n")),
            signing_certificate=key_pair[1].removesuffix("\n"),
            clock_skew=30,
            request_lifetime=300,
            force_authn_after_logout=True,
        ),
    )
    assert load(full) == Settings(
        contact_centers={
            "acme": acme,
            "beta": ContactCenterSettings("beta", "beta", web_services=WebServices()),
        },
        base_path=folder,
        default_contact_center="acme",
        public_url="https://portal.acme.example",
        state_url=f"sqlite:///{folder}/state.sqlite3",
        state_namespace="portal-1",
        state_timeout=1.5,
        accounts_url=f"sqlite:///{folder}/people.sqlite3",
        extra_steps=("acme.steps:Badge",),
        protect_by_default=False,
        unprotected_endpoints=frozenset({"health", "api.version"}),
        take_over_loaders=True,
        unauthenticated_status=403,
        saml_url_prefix="/sso/saml",
        login_view="auth.login",
        languages=("de-CH", "en"),
        texts={"de-CH": {"sign_in": "Anmelden"}},
        salesforce_headers=SalesforceHeaders("X-Session", "X-Identity"),
        session=SessionSettings(60, 3600, 2.0),
        passwords=PasswordSettings(64, 1, 2, 1, 0),
        throttle=ThrottleSettings(
            "1 per minute", "2/hour", "3 per 2 days", "redis://:hunter2@redis.acme.example/1", fallback=False
        ),
    )


def test_named_files_are_listed_with_their_keys(load: Load, folder: Path, full: Mapping) -> None:
    assert [(one.key, one.path, one.secret) for one in load(full).files] == [
        (f"contact_centers.acme.{key}", folder / name, secret)
        for key, name, secret in (
            ("configuration_server.client_secret", "client-secret", True),
            ("saml.signing_key", "sp.key", True),
            ("saml.signing_certificate", "sp.crt", False),
            ("saml.identity_providers.okta.metadata", "idp.xml", False),
        )
    ]


def test_full_configuration_changes_every_default(load: Load, full: Mapping) -> None:
    settings = load({**full, "allow_http": True})  # false in the fixture, for the tests of addresses on plain http
    for value in (settings, settings.session, settings.passwords, settings.throttle, settings.salesforce_headers):
        for field in dataclasses.fields(value):
            assert getattr(value, field.name) != field.default, field.name


def test_given_mapping_is_not_changed(load: Load, full: Mapping) -> None:
    before = repr(full)
    load(full)
    assert repr(full) == before


def test_empty_text_means_the_default(folder: Path, load: Load) -> None:
    acme: Mapping = {"id": "", "public_url": "", "hosts": [], "web_services": {}}
    plain = load({"contact_centers": {"acme": {"web_services": {}}}})
    keys = ("default_contact_center", "public_url", "state_namespace", "accounts_url", "login_view")
    assert load({**dict.fromkeys(keys, ""), "contact_centers": {"acme": acme}}) == plain


def test_step_without_an_enabled_table_is_disabled(load: Load, full: Mapping) -> None:
    acme = full["contact_centers"]["acme"]
    for step in ("salesforce", "configuration_server", "web_services", "saml"):
        acme[step]["enabled"] = False
    center = load(full).contact_centers["acme"]
    assert (center.salesforce, center.configuration_server, center.web_services, center.saml) == (None,) * 4
    assert not load(full).saml_enabled


def test_disabled_step_reads_and_requires_nothing(load: Load, refused: Refused, full: Mapping) -> None:
    acme = full["contact_centers"]["acme"]
    acme["salesforce"] = {"enabled": False}
    acme["configuration_server"] = {"enabled": False, "client_secret": {"file": "gone"}}
    acme["saml"] = {"enabled": False, "identity_providers": {"okta": {"metadata": "gone.xml"}}}
    assert load(full).contact_centers["acme"].saml is None
    acme["salesforce"]["timeout"] = "soon"
    assert refused(full) == [
        "contact_centers.acme.salesforce.timeout: must be a number of seconds without quotes, not text",
    ]


@pytest.mark.parametrize(
    ("state", "accounts", "expected_state", "expected_accounts"),
    [
        ("", "", "sqlite:///{}/state.sqlite3", "sqlite:///{}/accounts.sqlite3"),
        ("memory://", "", "memory://", "sqlite:///{}/accounts.sqlite3"),
        ("sqlite:///sub/s.db", "", "sqlite:///{}/sub/s.db", "sqlite:///{}/accounts.sqlite3"),
        (
            "sqlite+pysqlite:///s.db?timeout=5",
            "sqlite:///a.db",
            "sqlite+pysqlite:///{}/s.db?timeout=5",
            "sqlite:///{}/a.db",
        ),
        ("sqlite:////var/s.db", "sqlite:///a.db", "sqlite:////var/s.db", "sqlite:///{}/a.db"),
        ("postgresql+psycopg://u:p@h/d", "", "postgresql+psycopg://u:p@h/d", "sqlite:///{}/accounts.sqlite3"),
        ("postgresql+psycopg://u:p@h/d", "sqlite:///a.db", "postgresql+psycopg://u:p@h/d", "sqlite:///{}/a.db"),
        ("redis://h", "postgresql+psycopg://u:p@h/d", "redis://h", "postgresql+psycopg://u:p@h/d"),
        ("memory://", "sqlite://", "memory://", "sqlite://"),
        ("memory://", "sqlite:///:memory:", "memory://", "sqlite:///:memory:"),
        ("memory://", "sqlite:////srv/a.db", "memory://", "sqlite:////srv/a.db"),
    ],
)
def test_database_urls_and_their_defaults(
    folder: Path, load: Load, state: str, accounts: str, expected_state: str, expected_accounts: str
) -> None:
    mapping: Mapping = {"contact_centers": {"acme": {}}, "accounts_url": accounts}
    if state:
        mapping["state_url"] = state
    settings = load(mapping)
    assert settings.state_url == expected_state.format(folder)
    assert settings.accounts_url == expected_accounts.format(folder)


def test_paths_start_from_the_configured_base_path(folder: Path, full: Mapping) -> None:
    for base in (str(folder), folder, folder.name):
        settings = load_settings({**full, "base_path": base}, base_path=folder.parent, app_name="portal")
        assert settings.base_path == folder
        assert settings.accounts_url == f"sqlite:///{folder}/people.sqlite3"


def test_python_may_pass_paths_tuples_and_sets(load: Load, folder: Path, full: Mapping) -> None:
    acme = full["contact_centers"]["acme"]
    acme["hosts"] = ("portal.acme.example",)
    acme["domains"] = {"acme.example"}
    acme["configuration_server"]["client_secret"] = {"file": folder / "client-secret"}
    acme["saml"]["identity_providers"]["okta"]["metadata"] = folder / "idp.xml"
    center = load(full).contact_centers["acme"]
    assert center.hosts == {"portal.acme.example"}
    assert center.configuration_server is not None
    assert center.configuration_server.client_secret.reveal() == "cl13nt-s3cret"


@pytest.mark.parametrize(
    ("prefix", "expected"), [("/saml", "/saml"), ("saml", "/saml"), ("/a/b/", "/a/b"), ("//x//", "/x")]
)
def test_saml_url_prefix_is_normalised(load: Load, prefix: str, expected: str) -> None:
    assert load({"saml_url_prefix": prefix, "contact_centers": {"acme": {}}}).saml_url_prefix == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://portal.acme.example/", "https://portal.acme.example"),
        ("https://PORTAL.acme.example:443", "https://portal.acme.example"),
        ("https://portal.acme.example:8443/cc", "https://portal.acme.example:8443/cc"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
    ],
)
def test_urls_are_normalised(load: Load, url: str, expected: str) -> None:
    assert load({"public_url": url, "contact_centers": {"acme": {}}}).public_url == expected


def test_plain_http_to_other_hosts_needs_allow_http(load: Load, refused: Refused) -> None:
    mapping: Mapping = {
        "public_url": "http://portal.example",
        "contact_centers": {
            "acme": {
                "public_url": "http://acme.example",
                "allowed_origins": ["http://crm.example"],
                "salesforce": {
                    "organizations": ["00D000000000001"],
                    "identity_hosts": ["http://sf.internal:8080"],
                    "redirect_hosts": ["http://sf2.internal"],
                },
                "configuration_server": {"url": "http://gws.internal", "client_id": "a", "client_secret": "b"},
            }
        },
    }
    acme = mapping["contact_centers"]["acme"]
    assert [problem.partition(": http://")[0] for problem in refused(mapping)] == [
        "public_url",
        "contact_centers.acme.public_url",
        "contact_centers.acme.allowed_origins",
        "contact_centers.acme.salesforce.identity_hosts",
        "contact_centers.acme.salesforce.redirect_hosts",
        "contact_centers.acme.configuration_server.url",
    ]
    for table in (mapping, acme, acme["salesforce"], acme["configuration_server"]):
        table["allow_http"] = True
    settings = load(mapping)
    center = settings.contact_centers["acme"]
    assert (settings.public_url, center.public_url) == ("http://portal.example", "http://acme.example")
    assert center.salesforce is not None
    assert (settings.allow_http, center.allow_http, center.salesforce.allow_http) == (True, True, True)
    assert center.salesforce.identity_hosts == (AllowedHost("sf.internal", "http", 8080),)
    assert center.salesforce.redirect_hosts == (AllowedHost("sf2.internal", "http", 80),)


def test_custom_directory_needs_no_other_key(load: Load) -> None:
    table = {"directory": "acme.directories:Badges"}
    settings = load({"contact_centers": {"acme": {"configuration_server": table}}})
    found = settings.contact_centers["acme"].configuration_server
    assert found is not None
    assert (found.directory, found.url) == ("acme.directories:Badges", "")


def test_several_saml_contact_centers_need_different_hosts(load: Load, refused: Refused) -> None:
    saml = {"identity_providers": {"okta": {"metadata": "idp.xml"}}}
    acme: Mapping = {"public_url": "https://acme.example", "hosts": ["acme.example"], "saml": saml}
    beta: Mapping = {"public_url": "https://beta.example:8443", "hosts": ["beta.example:8443"], "saml": saml}
    mapping: Mapping = {"contact_centers": {"acme": acme, "beta": beta}}
    assert load(mapping).saml_enabled
    beta["hosts"] = ["beta.example:9000"]
    assert refused(mapping) == [
        "contact_centers.beta.public_url: beta.example:8443 must be listed in hosts, "
        "because several contact centers have SAML"
    ]
    beta["public_url"] = "https://acme.example"
    assert refused(mapping) == [
        "contact_centers.beta.public_url: acme.example belongs to contact_centers.acme: use a host of beta"
    ]
    del beta["saml"]
    assert load(mapping).contact_centers["beta"].public_url == "https://acme.example"


def test_single_saml_contact_center_uses_the_global_url(load: Load, refused: Refused) -> None:
    acme: Mapping = {"saml": {"identity_providers": {"okta": {"metadata": "idp.xml"}}}}
    mapping: Mapping = {"contact_centers": {"acme": acme}}
    assert refused(mapping) == [
        "contact_centers.acme.public_url: is required for SAML: set it here, or in [GENESYS_AUTH]"
    ]
    assert load({**mapping, "public_url": "https://portal.example"}).saml_enabled


def test_redis_stores_the_state_but_not_the_accounts(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping: Mapping = {"contact_centers": {"acme": {}}, "state_url": "rediss://ann:secret@redis.internal:6380/1"}
    settings = load(mapping)
    assert settings.state_url == mapping["state_url"]
    assert settings.accounts_url == f"sqlite:///{folder}/accounts.sqlite3"
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"state_url: requires a package .* 'flask-genesys-auth\[redis\]'"):
        load(mapping)


def test_redis_url_may_name_certificate_authorities(load: Load, folder: Path, key_pair: tuple[str, str]) -> None:
    file, other = folder / "redis ca.pem", folder / "garbage.pem"
    file.write_text(key_pair[1])
    other.write_text("garbage")
    url = f"rediss://:secret@redis.internal/0?ssl_ca_certs={file}"
    settings = load({"contact_centers": {"acme": {}}, "state_url": url})
    assert (settings.state_url, settings.throttle.storage_url) == (url, url)
    assert [(one.key, one.path) for one in settings.files] == [("state_url", file)]
    with pytest.raises(ConfigurationError, match=r"ssl_ca_certs must name a readable file of cert") as refused:
        load({"contact_centers": {"acme": {}}, "throttle": {"storage_url": url.replace(file.name, other.name)}})
    assert "secret" not in str(refused.value)


def test_postgresql_needs_its_package(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping: Mapping = {"contact_centers": {"acme": {}}, "state_url": "postgresql+psycopg://ann:secret@db.internal/p"}
    assert load(mapping).state_url == mapping["state_url"]
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ConfigurationError, match=r"state_url: requires .* 'flask-genesys-auth\[postgresql\]'"
    ) as refused:
        load(mapping)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("state", "storage", "counted_in"),
    [
        ("memory://", None, "memory://"),
        ("sqlite:///state.sqlite3", None, "memory://"),
        ("redis://127.0.0.1/3", None, "redis://127.0.0.1/3"),
        ("unix:///run/redis.sock?db=3", None, "unix:///run/redis.sock?db=3"),
        ("redis+sentinel://127.0.0.1/portal/3", None, "redis+sentinel://127.0.0.1/portal/3"),
        ("redis://127.0.0.1/3", "memory://", "memory://"),
        ("sqlite:///state.sqlite3", "redis+sentinel://127.0.0.1/portal/3", "redis+sentinel://127.0.0.1/portal/3"),
        ("memory://", "redis://127.0.0.1/4", "redis://127.0.0.1/4"),
    ],
)
def test_throttle_follows_the_state_to_redis(load: Load, state: str, storage: str | None, counted_in: str) -> None:
    table = {} if storage is None else {"throttle": {"storage_url": storage}}
    assert load({"contact_centers": {"acme": {}}, "state_url": state, **table}).throttle.storage_url == counted_in
