"""Configurations from TOML, environment variables and Python, in a real Flask application."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from flask import Flask

from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.settings import Settings
from flask_genesys_auth.errors import ConfigurationError

from .conftest import Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOML = """
[GENESYS_AUTH]
public_url = "https://portal.acme.example"
state_url = "memory://"

[GENESYS_AUTH.session]
idle_timeout = 900

[GENESYS_AUTH.contact_centers.acme]
domains = ["acme.example"]

[GENESYS_AUTH.contact_centers.acme.salesforce]
organizations = ["00D000000000001"]
timeout = 2

[GENESYS_AUTH.contact_centers.acme.configuration_server]
url = "https://gws.internal"
client_id = "portal"
client_secret = { file = "client-secret" }

[GENESYS_AUTH.contact_centers.acme.saml.identity_providers.okta]
metadata = "idp.xml"
"""

ENVIRONMENT = {
    "FLASK_GENESYS_AUTH__PUBLIC_URL": "https://portal.acme.example",
    "FLASK_GENESYS_AUTH__STATE_URL": "memory://",
    "FLASK_GENESYS_AUTH__SESSION__IDLE_TIMEOUT": "900",
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__DOMAINS": '["acme.example"]',
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__SALESFORCE__ORGANIZATIONS": '["00D000000000001"]',
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__SALESFORCE__TIMEOUT": "2",
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__CONFIGURATION_SERVER__URL": "https://gws.internal",
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__CONFIGURATION_SERVER__CLIENT_ID": "portal",
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__CONFIGURATION_SERVER__CLIENT_SECRET__FILE": "client-secret",
    "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__SAML__IDENTITY_PROVIDERS__OKTA__METADATA": "idp.xml",
}


def settings_of(app: Flask, folder: Path) -> Settings:
    return load_settings(app.config["GENESYS_AUTH"], base_path=folder, app_name=app.name)


@pytest.fixture
def from_file(folder: Path) -> Flask:
    (folder / "settings.toml").write_text(TOML)
    app = Flask("portal")
    app.config.from_file(str(folder / "settings.toml"), load=tomllib.load, text=False)
    return app


def in_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Flask:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = Flask("portal")
    app.config.from_prefixed_env()
    return app


def test_file_environment_and_python_give_equal_settings(
    from_file: Flask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = settings_of(from_file, folder)
    assert expected.contact_centers["acme"].saml is not None
    assert settings_of(in_environment(monkeypatch, ENVIRONMENT), folder) == expected
    python: Mapping = {
        "public_url": "https://portal.acme.example",
        "state_url": "memory://",
        "session": {"idle_timeout": 900},
        "contact_centers": {
            "acme": {
                "domains": ["acme.example"],
                "salesforce": {"organizations": ["00D000000000001"], "timeout": 2},
                "configuration_server": {
                    "url": "https://gws.internal",
                    "client_id": "portal",
                    "client_secret": "cl13nt-s3cret",
                },
                "saml": {"identity_providers": {"okta": {"metadata": "idp.xml"}}},
            }
        },
    }
    assert load_settings(python, base_path=folder, app_name="portal") == expected


def test_one_variable_may_hold_the_whole_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.dumps({"contact_centers": {"Acme": {"web_services": {}}}})
    app = in_environment(monkeypatch, {"FLASK_GENESYS_AUTH": whole})
    assert list(settings_of(app, folder).contact_centers) == ["Acme"]


def test_variable_overrides_a_file_key_spelled_alike(
    from_file: Flask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_GENESYS_AUTH__contact_centers__acme__salesforce__timeout", "5")
    from_file.config.from_prefixed_env()
    salesforce = settings_of(from_file, folder).contact_centers["acme"].salesforce
    assert salesforce is not None
    assert salesforce.timeout == 5


def test_key_in_both_spellings_is_an_error(from_file: Flask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_GENESYS_AUTH__PUBLIC_URL", "https://other.example")
    monkeypatch.setenv("FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__WEB_SERVICES", "{}")
    from_file.config.from_prefixed_env()
    with pytest.raises(ConfigurationError) as caught:
        settings_of(from_file, folder)
    assert sorted(caught.value.problems) == [
        "contact_centers: is set twice, as contact_centers and as CONTACT_CENTERS: remove one of the two",
        "public_url: is set twice, as public_url and as PUBLIC_URL: remove one of the two",
    ]


def test_table_names_are_lowered_below_upper_case_keys(folder: Path) -> None:
    def names(mapping: Mapping) -> list[str]:
        return list(load_settings(mapping, base_path=folder, app_name="portal").contact_centers)

    assert names({"CONTACT_CENTERS": {"ACME": {}, "Beta": {}, "C-1": {}}}) == ["acme", "Beta", "c-1"]
    assert names({"contact_centers": {"ACME": {}, "Beta": {}}}) == ["ACME", "Beta"]
    with pytest.raises(ConfigurationError, match="in upper and lower case only"):
        names({"CONTACT_CENTERS": {"ACME": {}, "acme": {}}})
    with pytest.raises(ConfigurationError, match="must be a table of tables, not a number"):
        names({"CONTACT_CENTERS": 5})


@pytest.mark.parametrize(
    ("variable", "value", "finding"),
    [
        ("SESSION__IDLE_TIMEOUT", "soon", "session.idle_timeout: must be a whole number without quotes, not text"),
        ("SESSION__IDLE_TIMEOUT", '"900"', "session.idle_timeout: must be a whole number without quotes, not text"),
        (
            "PROTECT_BY_DEFAULT",
            "False",
            "protect_by_default: must be true or false in lower case without quotes, not text",
        ),
        ("LOGIN_VIEW", "7", "login_view: must be text, not a number: put it in quotes"),
        ("UNPROTECTED_ENDPOINTS", "health", 'unprotected_endpoints: must be a list such as ["..."], not text'),
        ("STATE_TIMEOUT", "NaN", "state_timeout: must be above 0 and at most 60 seconds, not nan"),
        ("STATE_TIMEOUT", "null", "state_timeout: must not be null: remove the key to use the default"),
        ("PUBLIC_ULR", "x", "PUBLIC_ULR: is not a known key; did you mean public_url?"),
    ],
)
def test_values_of_variables_are_never_coerced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, finding: str
) -> None:
    variables = {
        "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME": "{}",
        "FLASK_GENESYS_AUTH__" + variable: value,
    }
    app = in_environment(monkeypatch, variables)
    with pytest.raises(ConfigurationError) as caught:
        settings_of(app, folder)
    assert caught.value.problems == (finding,)
    monkeypatch.delenv("FLASK_GENESYS_AUTH__" + variable)
    assert settings_of(in_environment(monkeypatch, {}), folder).contact_centers


def test_numeric_secret_is_refused_and_not_quoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__CONFIGURATION_SERVER__"
    variables = {prefix + "URL": "https://gws.internal", prefix + "CLIENT_ID": "portal"}
    app = in_environment(monkeypatch, {**variables, prefix + "CLIENT_SECRET": "8675309"})
    with pytest.raises(ConfigurationError, match="client_secret: must be text") as caught:
        settings_of(app, folder)
    assert "8675309" not in str(caught.value)
    found = settings_of(in_environment(monkeypatch, {prefix + "CLIENT_SECRET": '"8675309"'}), folder)
    server = found.contact_centers["acme"].configuration_server
    assert server is not None
    assert server.client_secret.reveal() == "8675309"
