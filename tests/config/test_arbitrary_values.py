"""Any value gives settings or a ConfigurationError, which never shows a secret."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_genesys_auth.config.addresses import AllowedHost
from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.fields import Section, Tables, TableValue, settings_of
from flask_genesys_auth.config.settings import Settings
from flask_genesys_auth.errors import ConfigurationError

from .conftest import Mapping

SECRET = "hunter2-hunter2"


def keys_of(table: type) -> set[str]:
    """Return the keys of a table and of all tables below it."""
    declared = settings_of(table)
    below = [one.field.declared for one in declared.values() if isinstance(one.field, TableValue)]
    return set(declared).union(*map(keys_of, below))


KNOWN = sorted(keys_of(Settings) | {"acme", "ACME", "beta", "okta", "file", "env", "PUBLIC_URL", "CONTACT_CENTERS"})
TEXTS = ["", "acme", "memory://", "sqlite:///x.db", "https://a.example", "http://127.0.0.1:5000", "http://a.example"]
TEXTS += [".my.salesforce.com", "00D000000000001", "1 per minute", "genesys", "a.b:C", "/saml", "username", "name_id"]
TEXTS += ["idp.xml", "[::1]", "::1", "nul\0", "\ud800", "x" * 2000, "sqlite+json://", "postgresql+asyncpg://x", "://"]

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(TEXTS)
    | st.sampled_from([10**400, -(10**400), 401, 403, 60])
)
names = st.sampled_from(KNOWN) | st.text(max_size=10)
values = st.recursive(
    leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=5), max_leaves=20
)


def read(mapping: object, folder: Path) -> Settings | ConfigurationError:
    try:
        return load_settings(mapping, base_path=folder, app_name="portal")
    except ConfigurationError as error:
        found = error
    assert found.problems
    assert all(": " in problem and "\n" not in problem for problem in found.problems)
    return found


def shaped(table: type) -> st.SearchStrategy[Mapping]:
    """Generate tables with known keys and any values."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for key, declared in settings_of(table).items():
        field = declared.field
        if isinstance(field, Tables):
            below: st.SearchStrategy[Any] = st.dictionaries(
                st.sampled_from(["acme", "beta", "ACME", "okta", "a b"]), shaped(field.declared), max_size=2
            )
        elif isinstance(field, Section):
            below = shaped(field.declared)
        else:
            below = st.sampled_from(TEXTS) | st.lists(st.sampled_from(TEXTS), max_size=2) | leaves
        fields[key] = below | leaves if key != "contact_centers" else below
    return st.fixed_dictionaries({}, optional=fields)


@given(values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_value_gives_settings_or_a_configuration_error(folder: Path, mapping: object) -> None:
    assert isinstance(read(mapping, folder), (Settings, ConfigurationError))


@given(shaped(Settings))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
)
def test_any_value_of_a_known_key_is_handled(folder: Path, mapping: Mapping) -> None:
    before = repr(mapping)
    assert isinstance(read(mapping, folder), (Settings, ConfigurationError))
    assert repr(mapping) == before


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return all paths into a mapping."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, entry in below for place in places(entry, (*path, key)))][0 if path else 1 :]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_changed_value_reveals_the_secret(folder: Path, full: Mapping, data: st.DataObject) -> None:
    full["contact_centers"]["acme"]["configuration_server"]["client_secret"] = SECRET
    mapping = copy.deepcopy(full)
    *above, last = data.draw(st.sampled_from(places(mapping)))
    table: Any = mapping
    for key in above:
        table = table[key]
    table[last] = data.draw(values)
    found = read(mapping, folder)
    assert SECRET not in str(found) + repr(found)


@given(st.text(st.sampled_from("abcAB.-:[]/%_1 @\\"), max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_accepted_identity_host_matches_only_itself(folder: Path, entry: str) -> None:
    salesforce = {"organizations": ["00D000000000001"], "identity_hosts": [entry]}
    found = read({"contact_centers": {"acme": {"salesforce": salesforce}}}, folder)
    if isinstance(found, Settings):
        taken = found.contact_centers["acme"].salesforce
        assert taken is not None
        assert taken.identity_hosts == (AllowedHost(entry.lower()),)
        assert taken.identity_hosts[0].matches("https", entry.lower(), 443)
        assert not taken.identity_hosts[0].matches("http", entry.lower(), 443)
        assert not taken.identity_hosts[0].matches("https", "x." + entry.lower(), 443)
