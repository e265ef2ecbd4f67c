"""The configuration once read: frozen values, with every default of ``docs/configuration``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from .secrets import Secret

if TYPE_CHECKING:
    from .proxies import Proxy

CONCURRENT_CALLS = 4
"""Calls to one server at the same time: below the 8 threads that a worker usually has, so that others find one free."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names that cannot leave the machine: plain http is accepted there."""


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of ``identity_hosts`` or ``redirect_hosts``.

    :param host: lower case; a leading dot makes it a suffix at a label's border.
    """

    host: str
    scheme: str = "https"
    port: int = 443

    def matches(self, scheme: str, host: str, port: int) -> bool:
        """Tell whether this entry allows an address of exactly these parts (``host`` in lower case)."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if self.host.startswith("."):
            return host.endswith(self.host) and len(host) > len(self.host)
        return host == self.host


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names, as it was read at the start.

    :param key: the dotted path of the key that names it.
    :param secret: whether what it holds is a secret.
    """

    key: str
    path: Path
    secret: bool


@dataclass(frozen=True, slots=True)
class SalesforceHeaders:
    """The names of the two request headers of the Salesforce step."""

    session: str = "ssid"
    identity: str = "surl"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How long a login session lives, in seconds.

    :param revocation_delay: how long ago a login session and its account may have been read; 0: at this request.
    """

    idle_timeout: int = 1800
    absolute_timeout: int = 28800
    revocation_delay: float = 0.0


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """Parameters of argon2id (RFC 9106), how many hashes may run at once, how long a good password is remembered."""

    memory_kib: int = 19456
    iterations: int = 2
    lanes: int = 1
    concurrent_hashes: int = 4
    reuse_verified_for: float = 60


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How many failures are let through, in the notation of ``limits``: ``"10 per 5 minutes"``.

    :param storage_url: ``memory://``, or an address of Redis, for several nodes. It may hold a password, so it
        does not show.
    :param fallback: where Redis does not answer, each process counts for itself; else nobody logs in meanwhile.
    """

    per_account: str = "10 per 5 minutes"
    per_account_anywhere: str = "50 per 15 minutes"
    per_address: str = "300 per minute"
    storage_url: str = field(default="memory://", repr=False)
    fallback: bool = True


@dataclass(frozen=True, slots=True)
class Salesforce:
    """The Salesforce step of one contact center.

    :param organizations: organization ids of 15 characters (18 are cut after their checksum has been verified).
    :param timeout: seconds for the whole step, redirects included.
    :param ca_file: what the file held: the authorities to trust instead of the system's, in PEM form; or empty.
    :param concurrent_calls: to one server at the same time, in one process.
    """

    organizations: frozenset[str]
    identity_hosts: tuple[AllowedHost, ...] = (AllowedHost("login.salesforce.com"),)
    redirect_hosts: tuple[AllowedHost, ...] = (AllowedHost(".my.salesforce.com"),)
    match: Literal["username", "email", "identity"] = "username"
    timeout: float = 3.0
    reuse_verified_for: float = 60
    ca_file: str = field(default="", repr=False)
    proxy: Proxy | None = None
    concurrent_calls: int = CONCURRENT_CALLS
    enabled: bool = field(default=True, kw_only=True)
    allow_http: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class LdapServer:
    """One server of an LDAP directory.

    :param tls: TLS from the first octet on (``ldaps``).
    :param host: lower case, an IPv6 address without its brackets.
    """

    tls: bool
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Tell whether it cannot leave the machine."""
        return self.host in LOOPBACK_HOSTS

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls else 'ldap'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LdapAttributes:
    """What the directory calls what we know of a person; empty: it is not read.

    :param identity: the value that an account is linked by, such as ``entryUUID`` or ``objectGUID``.
    :param groups: its values are distinguished names of groups, such as those of ``memberOf``.
    """

    username: str = "uid"
    login_name: str = ""
    cme_user_name: str = ""
    identity: str = ""
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    groups: str = ""


@dataclass(frozen=True, slots=True)
class Ldap:
    """The LDAP directory of a Configuration Server.

    :param servers: at least one; they are tried in turn.
    :param start_tls: StartTLS on addresses without TLS.
    :param user_dn: the distinguished name to bind as, with ``{user}`` in it; or empty: it is searched for.
    :param bind_dn: who searches and reads; empty: nobody in particular, or with ``user_dn`` the person.
    :param role_map: role by group, in the form of ``distinguished_names.normal``.
    :param sync_roles: roles follow ``role_map`` whenever the directory was asked.
    """

    servers: tuple[LdapServer, ...]
    start_tls: bool = True
    user_dn: str = ""
    base: str = ""
    scope: Literal["subtree", "one_level"] = "subtree"
    filter: str = "(uid={user})"
    bind_dn: str = ""
    bind_password: Secret | None = None
    attributes: LdapAttributes = LdapAttributes()
    group_base: str = ""
    group_filter: str = "(member={dn})"
    role_map: Mapping[str, str] = field(default_factory=dict)
    sync_roles: bool = False
    allow_plain: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@dataclass(frozen=True, slots=True)
class ConfigurationServer:
    """The Configuration Server step of one contact center.

    :param directory: ``"genesys"``, ``"ldap"`` or ``"package.module:Class"``.
    :param timeout: seconds for the whole step.
    :param max_failures: per account, from anywhere: what may reach Genesys, which locks accounts.
    :param ca_file: what the file held: the authorities to trust instead of the system's, in PEM form; or empty.
    :param concurrent_calls: to one server at the same time, in one process.
    """

    url: str = ""
    client_id: str = ""
    client_secret: Secret = field(default_factory=lambda: Secret(""))
    directory: str = "genesys"
    tenant: str = "Environment"
    contact_center_id: str = ""
    match: Literal["username", "login_name", "cme_user_name", "identity"] = "username"
    max_failures: str = "2 per 15 minutes"
    timeout: float = 3.0
    reuse_verified_for: float = 60
    ca_file: str = field(default="", repr=False)
    proxy: Proxy | None = None
    concurrent_calls: int = CONCURRENT_CALLS
    ldap: Ldap | None = None
    enabled: bool = field(default=True, kw_only=True)
    allow_http: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class WebServices:
    """The Web Services step of one contact center; the table enables it."""

    enabled: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and the certificate that publishes it, both in PEM."""

    key: Secret
    certificate: str


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One SAML identity provider of one contact center.

    :param metadata: an existing file, or an http(s) address.
    :param metadata_refresh: seconds after which metadata from an address are fetched anew.
    :param metadata_certificate: PEM of the one certificate that must have signed the metadata, or empty.
    :param entity_id: which one, where the metadata name several.
    :param binding: of our AuthnRequest.
    :param allow_unsolicited: accept responses that answer no request (IdP-initiated).
    :param match: ``"name_id"`` or ``"attribute:NAME"``: the value that an account's linked identity carries.
    :param link_by: ``"user_name"``: at the first login, link the account of that name; or empty.
    :param email_domains: when not empty, the e-mail domains (lower case) this provider may speak for.
    :param authn_context: the authentication context classes asked for, and accepted; empty: any.
    :param allow_sha1: a relaxation, as are ``allow_cbc`` (AES-CBC content) and ``allow_rsa15`` (key transport).
    :param provision: make an account at the first login.
    :param attributes: the provider's attribute by ours: ``first_name``, ``last_name``, ``email``, ``groups``.
    :param role_map: role by group; a group that is not here gives nothing.
    :param sync_roles: roles follow ``role_map`` at every login, not only at provisioning.
    """

    name: str
    metadata: Path | str
    metadata_refresh: int = 3600
    metadata_certificate: str = ""
    entity_id: str = ""
    binding: Literal["redirect", "post"] = "redirect"
    allow_unsolicited: bool = False
    match: str = "name_id"
    link_by: Literal["", "user_name"] = ""
    email_domains: frozenset[str] = frozenset()
    name_id_format: str = ""
    authn_context: tuple[str, ...] = ()
    force_authn: bool = False
    single_logout: bool = True
    want_response_signed: bool = False
    allow_sha1: bool = False
    allow_cbc: bool = False
    allow_rsa15: bool = False
    provision: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    role_map: Mapping[str, str] = field(default_factory=dict)
    sync_roles: bool = False
    allow_http: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@dataclass(frozen=True, slots=True)
class Saml:
    """The SAML step of one contact center.

    :param identity_providers: at least one, by name, in the configuration's order.
    :param entity_id: ours; empty means the address of our metadata.
    :param signing_certificate: PEM; ``next_signing_certificate`` stands beside it in our metadata while the signing
        key rolls over.
    :param encryption_keys: those that may decrypt, the first of which providers are asked to use.
    :param sign_metadata: sign our metadata with ``signing_key``.
    :param metadata_lifetime: seconds for which a copy of our metadata says that it is valid.
    :param clock_skew: seconds allowed between a provider's clock and ours, the same for every check.
    :param request_lifetime: seconds within which a login that was begun must be finished.
    :param cross_check: python3-saml must accept a response too.
    :param force_authn_after_logout: the login after a logout asks the provider to authenticate the user anew.
    """

    identity_providers: Mapping[str, IdentityProvider]
    entity_id: str = ""
    signing_key: Secret | None = None
    signing_certificate: str = ""
    next_signing_certificate: str = ""
    encryption_keys: tuple[KeyPair, ...] = ()
    sign_metadata: bool = False
    metadata_lifetime: int = 172800
    clock_skew: int = 60
    request_lifetime: int = 600
    cross_check: bool = False
    force_authn_after_logout: bool = False
    enabled: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity_providers", MappingProxyType(dict(self.identity_providers)))


@dataclass(frozen=True, slots=True)
class ContactCenterSettings:
    """One table of ``contact_centers``. A step whose settings are ``None`` is disabled here.

    :param name: the table's name, which SAML addresses carry.
    :param id: what the ``ContactCenterId`` header carries.
    :param public_url: ``scheme://host[:port]`` (and perhaps a path) without a trailing slash, or empty.
    :param allowed_origins: serialized origins (RFC 6454 6.2), lower case.
    """

    name: str
    id: str
    hosts: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    realms: frozenset[str] = frozenset()
    public_url: str = ""
    allowed_origins: frozenset[str] = frozenset()
    salesforce: Salesforce | None = None
    configuration_server: ConfigurationServer | None = None
    web_services: WebServices | None = None
    saml: Saml | None = None
    allow_http: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of ``app.config["GENESYS_AUTH"]``.

    :param base_path: the folder that relative paths are relative to.
    :param state_url: ``memory://``, a SQLAlchemy address of SQLite, absolute, or of PostgreSQL, or one of Redis.
    :param accounts_url: a SQLAlchemy address, absolute. Either may hold a password, so neither shows.
    :param languages: tags of the languages that pages are in, the default first.
    :param texts: by a language's tag, texts of the pages by their names.
    :param files: those that it names, SQLite's apart. They say where values came from, not what they are.
    """

    contact_centers: Mapping[str, ContactCenterSettings]
    base_path: Path
    default_contact_center: str = ""
    public_url: str = ""
    state_url: str = field(default="memory://", repr=False)
    state_namespace: str = ""
    state_timeout: float = 1.0
    accounts_url: str = field(default="", repr=False)
    extra_steps: tuple[str, ...] = ()
    protect_by_default: bool = True
    unprotected_endpoints: frozenset[str] = frozenset()
    take_over_loaders: bool = False
    unauthenticated_status: Literal[401, 403] = 401
    saml_url_prefix: str = "/saml"
    login_view: str = ""
    languages: tuple[str, ...] = ("en",)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    salesforce_headers: SalesforceHeaders = SalesforceHeaders()
    session: SessionSettings = SessionSettings()
    passwords: PasswordSettings = PasswordSettings()
    throttle: ThrottleSettings = ThrottleSettings()
    files: tuple[NamedFile, ...] = field(default=(), compare=False)
    allow_http: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "contact_centers", MappingProxyType(dict(self.contact_centers)))
        texts = {tag: MappingProxyType(dict(table)) for tag, table in self.texts.items()}
        object.__setattr__(self, "texts", MappingProxyType(texts))

    @property
    def saml_enabled(self) -> bool:
        """Tell whether any contact center has SAML."""
        return any(center.saml is not None for center in self.contact_centers.values())
