"""Reads a configuration: validates each table, then checks several keys together, and builds the settings.

Each table with a rule over several of its keys has one function for it. All problems are reported together.
"""

from __future__ import annotations

import dataclasses
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from marshmallow import ValidationError

from ..errors import ConfigurationError
from . import databases, rules
from .addresses import address, bracketed, is_address, plain_http, proxy_of
from .fields import default_of, schema_of, table_at, value_of
from .names import nearest, normalise_dn
from .secrets import Secret, SecretSource, read_file
from .settings import NamedFile, Settings
from .texts import ENGLISH_TAG

T = TypeVar("T")

_STEPS = ("salesforce", "configuration_server", "web_services", "saml")
_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_SHOWN = 80
_AUTHORITY = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)


def load_settings(mapping: object, *, base_path: Path, app_name: str) -> Settings:
    """Read ``app.config["GENESYS_AUTH"]``.

    :param mapping: tables of plain values, as from ``tomllib``, ``from_prefixed_env`` or Python.
    :param base_path: the absolute folder that relative paths start from, unless the mapping names another.
    :param app_name: the default of ``state_namespace``.
    :raises ConfigurationError: with every problem, each with its dotted path; none quotes a secret.
    """
    problems = Problems()
    values = _validated(mapping, problems)
    values["base_path"] = (base_path / values.get("base_path", ".")).absolute()
    root = TableReader(Settings, values, problems, values["base_path"], [])
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


def shown(value: str) -> str:
    """Return a name from the configuration for a message: quoted, printable and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def dotted(path: str, key: object) -> str:
    """Return the path of a key below another."""
    if not isinstance(key, str):
        text = f"<{type(key).__name__}>"
    else:
        text = key if key.isprintable() and len(key) <= _SHOWN else shown(key)
    return f"{path}.{text}" if path else text


class Problems:
    """The problems of a configuration, in the order in which they were found."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, path: str, finding: str) -> None:
        """Add a problem of the key or table at a path."""
        self._found.setdefault(path, []).append(finding)

    def add_messages(self, messages: object, path: str = "") -> None:
        """Add marshmallow's messages: dictionaries of dictionaries, with lists of sentences as leaves."""
        if isinstance(messages, Mapping):
            for key, below in messages.items():
                self.add_messages(below, path if key == "_schema" else dotted(path, key))
        elif isinstance(messages, list):
            for message in messages:
                self.add_messages(message, path)
        else:
            self.add(path, str(messages))

    def at(self, path: str) -> bool:
        """Return whether there is a problem at or below a path."""
        return any(found == path or found.startswith(f"{path}.") for found in self._found)

    def check(self) -> None:
        """Raise ``ConfigurationError`` with every problem, if there is any."""
        if self._found:
            raise ConfigurationError(
                *(f"{path or 'GENESYS_AUTH'}: {one}" for path, findings in self._found.items() for one in findings)
            )


@dataclasses.dataclass(slots=True, repr=False)  # the values hold secrets
class TableReader:
    """A table during the checks. Reading a secret or a file replaces its name in the values with its content.

    :param declared: the dataclass that declares the keys.
    :param values: the values that the schema accepted.
    :param base_path: the folder that relative paths start from.
    :param files: the files that were read, of all tables.
    :param path: the dotted path of the table; empty for the whole configuration.
    """

    declared: type
    values: dict[str, Any]
    problems: Problems
    base_path: Path
    files: list[NamedFile]
    path: str = ""

    def section(self, key: str) -> TableReader:
        """Return the table below a key, which is created if absent."""
        return self._below(key, self.values.setdefault(key, {}), self._path_of(key))

    def sections(self, key: str) -> Iterator[tuple[str, TableReader]]:
        """Yield the names (or places) of the tables below a key, and the tables."""
        found = self.values.get(key, {})
        for name, values in found.items() if isinstance(found, Mapping) else enumerate(found):
            yield str(name), self._below(key, values, dotted(self._path_of(key), str(name)))

    def _below(self, key: str, values: dict[str, Any], path: str) -> TableReader:
        return dataclasses.replace(self, declared=table_at(self.declared, key), values=values, path=path)

    def get(self, key: str) -> Any:
        """Return the value of a key, or its default; ``None`` for a required key that is absent."""
        if key in self.values:
            return self.values[key]
        default = default_of(self.declared, key)
        return None if default is dataclasses.MISSING else default

    def add(self, key: str, finding: str) -> None:
        """Add a problem of a key, or of the whole table if the key is empty."""
        self.problems.add(self._path_of(key), finding)

    def wrong(self, key: str = "") -> bool:
        """Return whether a key, or anything in the table, has a problem."""
        return self.problems.at(self._path_of(key))

    def require(self, key: str, finding: str = "is required") -> None:
        """Add a problem if a key is absent or empty."""
        if not self.values.get(key) and not self.wrong(key):
            self.add(key, finding)

    def require_https(self, key: str, url: str, *, proxied: bool = False) -> None:
        """Add a problem if plain http could leave the machine, unless ``allow_http`` is set in this table.

        :param proxied: the table has a proxy, which supports https only.
        """
        place = url.partition("?")[0]
        if proxied and url.startswith("http://"):
            self.add(key, f"{place} is plain http, but proxy supports https only: use https, or remove proxy")
        elif not self.get("allow_http") and plain_http(url):
            advice = "use https, or set allow_http = true in the same table"
            self.add(key, f"{place} is plain http and could leave the machine: {advice}")

    def read(self, key: str, read: Callable[[], T]) -> T | None:
        """Return what a function reads; a ``ValidationError`` of it becomes a problem of the key."""
        try:
            return read()
        except ValidationError as error:
            self.problems.add_messages(error.messages, self._path_of(key))
        return None

    def read_file(self, key: str) -> tuple[Path, bytes | None]:
        """Return the absolute path of the file that a key names, and its content."""
        file = self.base_path / self.values[key]
        self.note_file(key, file)
        return file, self.read(key, lambda: read_file(file))

    def read_authorities(self, key: str) -> None:
        """Replace the name of a file with the certificates in it, in PEM (RFC 7468 5).

        They are read now, because the process may lose the permission later.
        """
        if key not in self.values:
            return
        file, content = self.read_file(key)
        if content is not None:
            self.values[key] = "\n".join(block.decode("ascii") for block in _AUTHORITY.findall(content))
            if not _are_certificates(self.values[key]):
                self.add(key, f"must name a file of valid certificates in PEM, not {file}")

    def read_proxy(self, key: str) -> None:
        """Read the URL of a proxy, which may hold a password."""
        secret = self.read_secret(key)
        if secret is not None:
            self.values[key] = self.read(key, lambda: proxy_of(secret.reveal()))

    def read_secret(self, key: str, *, public: bool = False) -> Secret | None:
        """Read a secret; return it, or ``None`` if it is absent or cannot be read.

        :param public: the value is configured like a secret, but is not one.
        """
        source = self.values.get(key)
        if not isinstance(source, SecretSource):
            return None
        secret = self.read(key, lambda: source.read(self.base_path))
        if secret is not None:
            self.values[key] = secret
            if source.kind == "file":
                self.note_file(key, self.base_path / source.value, secret=not public)
        return secret

    def read_private_key(self, key: str) -> None:
        """Read a private key in PEM."""
        found = self.read_secret(key)
        if found and ("PRIVATE KEY-----" not in found.reveal() or "ENCRYPTED" in found.reveal()):
            self.add(key, "must be a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)")

    def read_certificate(self, key: str) -> None:
        """Read one certificate in PEM (RFC 7468 5); it is public, so it becomes plain text.

        The metadata publish it: a private key must not be accepted in its place, or behind it.
        """
        found = self.read_secret(key, public=True)
        if found is not None:
            self.values[key] = found.reveal()
            if not _is_certificate(found.reveal()):
                self.add(key, "must be exactly one certificate in PEM, without a private key or any other text")

    def note_file(self, key: str, file: Path, *, secret: bool = False) -> None:
        """Record a file that a key names."""
        self.files.append(NamedFile(self._path_of(key), file, secret))

    def _path_of(self, key: str) -> str:
        return dotted(self.path, key) if key else self.path


def _are_certificates(text: str) -> bool:
    if not text:
        # OpenSSL takes an empty text for the system's authorities.
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return False
    return True


def _is_certificate(text: str) -> bool:
    """Return whether a text is one certificate in PEM, and nothing else but white space."""
    # Imported here, because only SAML has certificates of its own.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        pem = x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.PEM).decode()
    except ValueError:
        return False
    return "".join(text.split()) == "".join(pem.split())


def _check_root(root: TableReader, app_name: str) -> None:
    root.require_https("public_url", root.get("public_url"))
    if not root.get("state_namespace") and not root.wrong("state_namespace"):
        try:
            root.values["state_namespace"] = rules.namespace(app_name)
        except ValidationError:
            reason = f"the application's name, {shown(app_name)}, has a colon or more than 100 characters"
            root.add("state_namespace", f"must be set: {reason}")
    headers = root.section("salesforce_headers")
    if headers.get("session").lower() == headers.get("identity").lower():
        root.add("salesforce_headers", "session and identity must name two different headers")
    passwords = root.section("passwords")
    memory, lanes = passwords.get("memory_kib"), passwords.get("lanes")
    if memory < 8 * lanes:
        passwords.add(
            "memory_kib", f"must be at least {8 * lanes}, not {memory}: 8 for each of the lanes (RFC 9106 3.1)"
        )
    _check_languages(root)


def _check_languages(root: TableReader) -> None:
    """Accept the languages that have texts: English, and those in the table ``texts``."""
    known = list(dict.fromkeys((ENGLISH_TAG, *root.get("texts"))))
    if not root.values.get("languages"):
        root.values["languages"] = tuple(known)
    elif not root.wrong("texts"):
        for place, tag in enumerate(root.values["languages"]):
            if tag not in known:
                root.add(f"languages.{place}", f"has no texts: add them in texts.{tag}, or remove {tag}")


def _check_databases(root: TableReader) -> None:
    state = root.values.get("state_url", databases.DEFAULT_STATE)
    if not root.wrong("state_url"):
        state = root.values["state_url"] = root.read("state_url", lambda: databases.state_url(state, root.base_path))
    accounts = root.get("accounts_url") or databases.DEFAULT_ACCOUNTS
    if not root.wrong("accounts_url"):
        root.values["accounts_url"] = root.read(
            "accounts_url", lambda: databases.accounts_url(accounts, root.base_path)
        )
    _check_throttle(root.section("throttle"), state or "")
    _note_authorities(root, "state_url")


def _check_throttle(throttle: TableReader, state: str) -> None:
    """Count in the Redis of the state by default; a database is too slow for that."""
    if throttle.wrong("storage_url"):
        return
    wanted = throttle.values.get("storage_url") or (state if databases.is_redis(state) else databases.MEMORY)
    throttle.values["storage_url"] = throttle.read("storage_url", lambda: databases.throttle_url(wanted)) or ""
    if wanted != state:
        _note_authorities(throttle, "storage_url")


def _note_authorities(table: TableReader, key: str) -> None:
    file = databases.authorities_of(table.values.get(key, "")) if not table.wrong(key) else None
    if file is not None:
        table.note_file(key, file)


def _check_default(root: TableReader) -> None:
    default, centers = root.get("default_contact_center"), root.values.get("contact_centers", {})
    if default and default not in centers:
        advice = nearest(default, centers) or f": use {' or '.join(centers) or 'the name of a table'}"
        root.add("default_contact_center", f"is not the name of a contact center{advice}")
    if not centers and not root.wrong("contact_centers") and not root.wrong():
        advice = "add a table [GENESYS_AUTH.contact_centers.NAME] for each contact center"
        root.add("contact_centers", f"is required: {advice}")


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
            center.require("public_url", "is required for SAML: set it here, or in [GENESYS_AUTH]")


def _check_salesforce(table: TableReader) -> None:
    table.read_authorities("ca_file")
    table.read_proxy("proxy")
    table.require("organizations")
    if not table.get("identity_hosts"):
        table.add("identity_hosts", 'must name at least one host, such as "login.salesforce.com"')
    for key in ("identity_hosts", "redirect_hosts"):
        for host in table.get(key):
            table.require_https(key, str(host), proxied="proxy" in table.values)


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
                table.add(key, 'is not used with directory = "ldap": remove it')
        _check_ldap(table.section("ldap"), table.get("match"))
    elif "ldap" in table.values:
        table.add("ldap", 'requires directory = "ldap": set it, or remove this table')


def _check_ldap(table: TableReader, match: str) -> None:
    table.require("servers")
    encrypted = table.get("allow_plain") or table.get("start_tls")
    for server in table.values.get("servers", ()):
        if not (encrypted or server.tls or server.loopback):
            advice = "use ldaps:// or start_tls = true, or set allow_plain = true in the same table"
            table.add("servers", f"{server} is plain LDAP and could leave the machine: {advice}")
    if not table.get("user_dn") and not table.get("base") and not table.wrong():
        table.add("", "requires user_dn (bind by template) or base (search, then bind)")
    if table.get("user_dn"):
        for key in ("base", "filter", "scope"):
            if table.values.get(key):
                table.add(key, "is not used with user_dn, which needs no search: remove one of the two")
    table.read_secret("bind_password")
    _require_both(table, "bind_dn", "bind_password")
    attributes = table.section("attributes")
    if not attributes.wrong() and not attributes.get(match):
        attributes.add(match, f'is required with match = "{match}"')
    _check_ldap_roles(table, attributes)


def _require_both(table: TableReader, one: str, other: str) -> None:
    for key, required in ((one, other), (other, one)):
        if key in table.values:
            table.require(required, f"is required with {key}")


def _check_ldap_roles(table: TableReader, attributes: TableReader) -> None:
    roles: dict[str, str] = {}
    for group, role in table.get("role_map").items():
        if roles.setdefault(normalise_dn(group), role) != role:
            table.add("role_map", f"gives two roles to the same group, {shown(group)}: remove one of them")
    table.values["role_map"] = roles
    if table.get("sync_roles"):
        table.require("role_map", "is required with sync_roles")
    elif roles:
        table.add("sync_roles", "must be true with role_map, which has no other use")
    if roles and not table.get("group_base") and not attributes.get("groups"):
        attributes.add("groups", "is required with role_map, unless group_base is set")
    if table.values.get("group_filter") and not table.get("group_base"):
        table.require("group_base", "is required with group_filter")


def _check_saml(table: TableReader) -> None:
    table.read_private_key("signing_key")
    table.read_certificate("signing_certificate")
    table.read_certificate("next_signing_certificate")
    _require_both(table, "signing_key", "signing_certificate")
    signs = "signing_key" in table.values or table.wrong("signing_key")
    for key in ("next_signing_certificate", "sign_metadata"):
        if table.get(key) and not signs:
            table.add(key, "requires signing_key: set it, or remove this key")
    for _, pair in table.sections("encryption_keys"):
        _check_key_pair(pair)
    providers = table.values.setdefault("identity_providers", {})
    if not providers and not table.wrong("identity_providers"):
        advice = f"add a table [GENESYS_AUTH.{table.path}.identity_providers.NAME] for each identity provider"
        table.add("identity_providers", f"is required: {advice}")
    described: dict[tuple[str, str], str] = {}
    for _, provider in table.sections("identity_providers"):
        _check_metadata(provider)
        _check_enrolment(provider)
        if provider.values.get("metadata"):
            same = described.setdefault((str(provider.get("metadata")), provider.get("entity_id")), provider.path)
            if same != provider.path:
                provider.add("metadata", f"is the same as in {same}: set a different entity_id in each")


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
        provider.values["metadata"], _ = provider.read_file("metadata")
        if "metadata_refresh" in provider.values:
            provider.add("metadata_refresh", "is not used with a metadata file, which is read again when it changes")
    elif given and plain_http(given):
        provider.require_https("metadata", given)
        if provider.get("allow_http"):
            provider.require("metadata_certificate", "is required with metadata on plain http")


def _check_enrolment(provider: TableReader) -> None:
    readable = "attributes" in provider.values or not provider.wrong("attributes")
    if provider.get("link_by"):
        provider.require("email_domains", "is required with link_by")
    if provider.get("sync_roles"):
        provider.require("role_map", "is required with sync_roles")
    wants_groups = next((key for key in ("role_map", "sync_roles") if provider.get(key)), None)
    if wants_groups and readable:
        provider.section("attributes").require("groups", f"is required with {wants_groups}")
    if provider.get("match") == "name_id" and provider.get("name_id_format") == _TRANSIENT:
        advice = 'set match = "attribute:NAME"'
        provider.add("name_id_format", f"requests transient names, which never match an account: {advice}")


def _conflicts(centers: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the path and the problem of each id, host, domain, realm or organization that two contact centers name.

    :param centers: the tables by name, without disabled steps.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, table in centers.items():
        path = dotted("contact_centers", name)
        for key, kind, value in _identifiers(name, table):
            owner = owners.setdefault((kind, value), path)
            if owner == path:
                continue
            if kind == "name":
                yield path, f"differs from {owner} in upper and lower case only: rename one of the two"
            else:
                yield dotted(path, key), f"{shown(value)} already belongs to {owner}: remove it from one of the two"


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
    """Yield each ``public_url`` whose host does not identify its contact center although several have SAML.

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
            yield path, f"{parts.netloc} belongs to {dotted('contact_centers', owner)}: use a host of {name}"
        elif owner is None and len(with_saml) > 1:
            yield path, f"{parts.netloc} must be listed in hosts, because several contact centers have SAML"
