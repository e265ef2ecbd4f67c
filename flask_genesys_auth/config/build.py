"""Reads a configuration: validates each table, then what several keys say together, and makes the settings.

There is one function for each table with a rule over several of its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from . import databases, rules
from .addresses import address, bracketed, is_address, plain_http
from .distinguished_names import normal
from .fields import schema_of, value_of
from .names import nearest
from .reading import Problems, TableReader, dotted, shown
from .settings import NamedFile, Settings
from .texts import ENGLISH_TAG

_STEPS = ("salesforce", "configuration_server", "web_services", "saml")
_NOT_WITH_LDAP = 'has no meaning with directory = "ldap": remove it'
_PLAIN_LDAP = (
    "is plain LDAP and could leave the machine: use ldaps:// or start_tls = true, or set allow_plain = true beside it"
)
_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


def load_settings(mapping: object, *, base_path: Path, app_name: str) -> Settings:
    """Read ``app.config["GENESYS_AUTH"]``.

    :param mapping: tables of plain values, as ``tomllib``, ``from_prefixed_env`` or Python make them.
    :param base_path: the absolute folder that relative paths are relative to, unless the mapping names another.
    :param app_name: the default of ``state_namespace``.
    :raises ConfigurationError: with every problem, each with its dotted path; none quotes a secret.
    """
    problems = Problems()
    values = _validated(mapping, problems)
    values["base_path"] = (base_path / values.get("base_path", ".")).absolute()
    root = TableReader(Settings, values, problems, base_path=values["base_path"])
    _check_root(root, app_name)
    _check_databases(root)
    for name, center in root.sections("contact_centers"):
        _check_contact_center(name, center, root)
    _check_default(root)
    centers: dict[str, dict[str, Any]] = values.get("contact_centers", {})
    for path, finding in (*_conflicts(centers), *_ambiguous_saml_hosts(centers, root.get("public_url"))):
        problems.add(path, finding)
    problems.check()
    return value_of(Settings, {**values, "files": tuple(root.files)})


def _validated(mapping: object, problems: Problems) -> dict[str, Any]:
    # marshmallow's error carries the input with its secrets: it must not become the context of another error.
    try:
        loaded: dict[str, Any] = schema_of(Settings).load(mapping)  # type: ignore[arg-type]  # the schema checks it
    except ValidationError as error:
        problems.add_messages(error.messages)
        valid = error.valid_data
        return dict(valid) if isinstance(valid, Mapping) else {}
    return loaded


def _check_root(root: TableReader, app_name: str) -> None:
    root.require_https("public_url", root.get("public_url"))
    if not root.get("state_namespace") and not root.wrong("state_namespace"):
        try:
            root.values["state_namespace"] = rules.namespace(app_name)
        except ValidationError:
            root.add("state_namespace", "must be set, for the application's name cannot stand for it")
    headers = root.section("salesforce_headers")
    if headers.get("session").lower() == headers.get("identity").lower():
        root.add("salesforce_headers", "session and identity must be two different headers")
    passwords = root.section("passwords")
    if passwords.get("memory_kib") < 8 * passwords.get("lanes"):
        passwords.add("memory_kib", "must be at least 8 for each of the lanes (RFC 9106 3.1)")
    _check_languages(root)


def _check_languages(root: TableReader) -> None:
    """Accept the languages that have texts: English, and those in the table ``texts``."""
    known = list(dict.fromkeys((ENGLISH_TAG, *root.get("texts"))))
    if not root.values.get("languages"):
        root.values["languages"] = tuple(known)
    elif not root.wrong("texts"):
        for place, tag in enumerate(root.values["languages"]):
            if tag not in known:
                root.add(f"languages.{place}", f"has no texts: give them in texts.{tag}")


def _check_databases(root: TableReader) -> None:
    state = _database(root, "state_url", root.values.get("state_url", databases.DEFAULT_STATE), databases.state_url)
    accounts = root.get("accounts_url") or databases.DEFAULT_ACCOUNTS
    _database(root, "accounts_url", accounts, databases.accounts_url)
    _check_throttle(root.section("throttle"), state)
    _note_authorities(root, "state_url")


def _database(root: TableReader, key: str, url: str, check: Callable[[str, Path], str]) -> str:
    if url and not root.wrong(key):
        try:
            url = root.values[key] = check(url, root.base_path)
        except ValidationError as error:
            root.problems.add_messages(error.messages, key)
            return ""
    return url


def _check_throttle(throttle: TableReader, state: str) -> None:
    """Count in the Redis of the state by default; a database is too slow for that."""
    if throttle.wrong("storage_url"):
        return
    wanted = throttle.values.get("storage_url") or (state if databases.is_redis(state) else databases.MEMORY)
    try:
        throttle.values["storage_url"] = databases.throttle_url(wanted)
    except ValidationError as error:
        throttle.problems.add_messages(error.messages, "throttle.storage_url")
    if wanted != state:
        _note_authorities(throttle, "storage_url")


def _note_authorities(table: TableReader, key: str) -> None:
    file = databases.authorities_of(table.values.get(key, "")) if not table.wrong(key) else None
    if file is not None:
        table.files.append(NamedFile(dotted(table.path, key), file, secret=False))


def _check_default(root: TableReader) -> None:
    default, centers = root.get("default_contact_center"), root.values.get("contact_centers", {})
    if default and default not in centers:
        root.add("default_contact_center", f"is the name of no contact center{nearest(default, centers)}")
    if not centers and not root.wrong("contact_centers") and not root.wrong():
        root.add("contact_centers", "is required: a table for each contact center, at least one")


def _check_contact_center(name: str, center: TableReader, root: TableReader) -> None:
    center.values["id"] = center.values.get("id") or name
    for step in _STEPS:
        if step in center.values and not center.section(step).get("enabled"):
            del center.values[step]
    center.require_https("public_url", center.get("public_url"))
    for origin in center.get("allowed_origins"):
        center.require_https("allowed_origins", origin)
    if "salesforce" in center.values:
        _check_salesforce(center.section("salesforce"))
    if "configuration_server" in center.values:
        _check_configuration_server(center.section("configuration_server"))
    if "saml" in center.values:
        _check_saml(center.section("saml"))
        if not center.get("public_url") and not root.get("public_url"):
            center.require("public_url", "is required for SAML, here or for all contact centers")


def _check_salesforce(table: TableReader) -> None:
    table.read_authorities("ca_file")
    table.read_proxy("proxy")
    table.require("organizations")
    if not table.get("identity_hosts"):
        table.add("identity_hosts", "must name at least one host")
    for key in ("identity_hosts", "redirect_hosts"):
        for host in table.get(key):
            table.require_https(key, f"{host.scheme}://{bracketed(host.host)}", proxied="proxy" in table.values)


def _check_configuration_server(table: TableReader) -> None:
    table.read_authorities("ca_file")
    table.read_proxy("proxy")
    table.require_https("url", table.get("url"), proxied="proxy" in table.values)
    table.read_secret("client_secret")
    if table.get("directory") == "genesys":
        for key in ("url", "client_id", "client_secret"):
            table.require(key)
    if table.get("directory") == "ldap":
        for key in ("url", "client_id", "client_secret", "contact_center_id", "proxy"):
            if table.values.get(key):
                table.add(key, _NOT_WITH_LDAP)
        _check_ldap(table.section("ldap"), table.get("match"))
    elif "ldap" in table.values:
        table.add("ldap", 'needs directory = "ldap"')


def _check_ldap(table: TableReader, match: str) -> None:
    table.require("servers")
    encrypted = table.get("allow_plain") or table.get("start_tls")
    if not all(encrypted or server.tls or server.loopback for server in table.values.get("servers", ())):
        table.add("servers", _PLAIN_LDAP)
    if not table.get("user_dn") and not table.get("base") and not table.wrong():
        table.add("", "needs user_dn (bind by template) or base (search, then bind)")
    if table.get("user_dn"):
        for key in ("base", "filter", "scope"):
            if table.values.get(key):
                table.add(key, "has no meaning beside user_dn: nothing is searched for")
    table.read_secret("bind_password")
    for key, other in (("bind_dn", "bind_password"), ("bind_password", "bind_dn")):
        if key in table.values:
            table.require(other, f"is required beside {key}")
    attributes = table.section("attributes")
    if not attributes.wrong() and not attributes.get(match):
        attributes.add(match, f'is required with match = "{match}"')
    _check_ldap_roles(table, attributes)


def _check_ldap_roles(table: TableReader, attributes: TableReader) -> None:
    roles: dict[str, str] = {}
    for group, role in table.get("role_map").items():
        if roles.setdefault(normal(group), role) != role:
            table.add("role_map", "names one group twice, with different roles")
    table.values["role_map"] = roles
    if table.get("sync_roles"):
        table.require("role_map", "is required beside sync_roles")
    elif roles:
        table.add("sync_roles", "must be true where there is a role_map: it does nothing else")
    if roles and not table.get("group_base") and not attributes.get("groups"):
        attributes.add("groups", "is required beside role_map, or group_base")
    if table.values.get("group_filter") and not table.get("group_base"):
        table.require("group_base", "is required beside group_filter")


def _check_saml(table: TableReader) -> None:
    table.read_private_key("signing_key")
    table.read_certificate("signing_certificate")
    table.read_certificate("next_signing_certificate")
    for key, other in (("signing_key", "signing_certificate"), ("signing_certificate", "signing_key")):
        if key in table.values:
            table.require(other, f"is required beside {key}")
    signs = "signing_key" in table.values or table.wrong("signing_key")
    for key in ("next_signing_certificate", "sign_metadata"):
        if table.get(key) and not signs:
            table.add(key, "needs a signing_key")
    for _, pair in table.sections("encryption_keys"):
        _check_key_pair(pair)
    providers = table.values.setdefault("identity_providers", {})
    if not providers and not table.wrong("identity_providers"):
        table.add("identity_providers", "is required: a table for each identity provider, at least one")
    described: dict[tuple[str, str], str] = {}
    for _, provider in table.sections("identity_providers"):
        _check_metadata(provider)
        _check_enrolment(provider)
        if provider.values.get("metadata"):
            same = described.setdefault((str(provider.get("metadata")), provider.get("entity_id")), provider.path)
            if same != provider.path:
                provider.add("metadata", f"is that of {same} already: each needs an entity_id of its own")


def _check_key_pair(pair: TableReader) -> None:
    pair.read_private_key("key")
    pair.read_certificate("certificate")
    for key in ("key", "certificate"):
        if pair.values or not pair.wrong():
            pair.require(key)


def _check_metadata(provider: TableReader) -> None:
    provider.require("metadata")
    provider.read_certificate("metadata_certificate")
    given = provider.values.get("metadata")
    if given and not is_address(given):
        provider.read_metadata_file("metadata")
        if "metadata_refresh" in provider.values:
            provider.add("metadata_refresh", "needs metadata from an address: a file is read anew when it changes")
    elif given and plain_http(given):
        provider.require_https("metadata", given)
        if provider.get("allow_http"):
            provider.require("metadata_certificate", "is required where the metadata come by plain http")


def _check_enrolment(provider: TableReader) -> None:
    readable = "attributes" in provider.values or not provider.wrong("attributes")
    if provider.get("link_by"):
        provider.require("email_domains", "is required beside link_by")
    if provider.get("sync_roles"):
        provider.require("role_map", "is required beside sync_roles")
    wants_groups = next((key for key in ("role_map", "sync_roles") if provider.get(key)), None)
    if wants_groups and readable:
        provider.section("attributes").require("groups", f"is required beside {wants_groups}")
    if provider.get("match") == "name_id" and provider.get("name_id_format") == _TRANSIENT:
        provider.add("name_id_format", "asks for transient names, by which nobody is ever found: match an attribute")


def _conflicts(centers: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the path and the problem of each id, host, domain, realm or organization that two contact centers name.

    :param centers: the tables by name, without the steps that are disabled.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, table in centers.items():
        path = dotted("contact_centers", name)
        for key, kind, value in _identifiers(name, table):
            owner = owners.setdefault((kind, value), path)
            if owner == path:
                continue
            if kind == "name":
                yield path, f"differs from {owner} by upper and lower case alone"
            else:
                yield dotted(path, key), f"{shown(value)} belongs to {owner} already"


def _identifiers(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    # ACME and acme are the same in a URL, in an environment variable and to an operator.
    yield "", "name", name.lower()
    yield "id", "id", table["id"]
    for key in ("hosts", "domains", "realms"):
        for value in table.get(key, ()):
            yield key, key, value
    for value in table.get("salesforce", {}).get("organizations", ()):
        yield "salesforce.organizations", "organizations", value


def _ambiguous_saml_hosts(centers: Mapping[str, Mapping[str, Any]], public_url: str) -> Iterator[tuple[str, str]]:
    """Yield where several contact centers have SAML and the host of a ``public_url`` does not tell them apart.

    :param public_url: that of all contact centers without one of their own, or empty.
    """
    with_saml = {name: table for name, table in centers.items() if "saml" in table}
    owners = {host: name for name, table in centers.items() for host in table.get("hosts", ())}
    for name, table in with_saml.items():
        url = table.get("public_url") or public_url
        if not url:
            continue
        parts = address(url)
        owner = owners.get(parts.netloc) or owners.get(bracketed(parts.host))
        path = dotted(dotted("contact_centers", name), "public_url")
        if owner not in {None, name}:
            yield path, f"its host belongs to {dotted('contact_centers', owner)}"
        elif owner is None and len(with_saml) > 1:
            yield path, "its host must be in hosts, where several contact centers have SAML"
