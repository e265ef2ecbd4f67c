"""The settings: one dataclass for each table, which declares its keys; what a read configuration becomes.

The schemas (``fields.schema_of``) and the tables of ``docs/configuration.md`` are derived from these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from . import addresses, rules
from .addresses import AllowedHost, LdapServer, Proxy
from .fields import (
    Choice,
    Flag,
    Listing,
    Location,
    Names,
    Seconds,
    SecretField,
    Section,
    TableList,
    Tables,
    Text,
    TextMap,
    Translations,
    Whole,
    setting,
    table,
)
from .secrets import Secret
from .texts import ENGLISH_TAG, language_tag

MINUTE = 60
DAY = 24 * 60 * MINUTE

CONCURRENT_CALLS = 4
"""Calls to one server at the same time: below the 8 threads that a worker usually has, so that others find one free."""

MOST_MEMORY_KIB = 1024 * 1024
"""The bounds of argon2id, both for the configuration and for stored hashes: a hash that exceeds one is not verified."""
MOST_ITERATIONS = 64
MOST_LANES = 64


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names, as it was read at the start.

    :param key: the dotted path of the key that names it.
    :param secret: whether what it holds is a secret.
    """

    key: str
    path: Path
    secret: bool


@table
class SalesforceHeaders:
    """The names of the two request headers of the Salesforce step."""

    session: str = setting(
        Text(rules.header_name, needed=True, kind="header"), default="ssid", help="Carries the Salesforce session ID."
    )
    identity: str = setting(
        Text(rules.header_name, needed=True, kind="header"), default="surl", help="Carries the Salesforce identity URL."
    )


@table
class SessionSettings:
    """The lifetime of a login session, in seconds."""

    idle_timeout: int = setting(
        Whole(1, 366 * DAY, unit="seconds"), default=1800, help="A login session that was not used for so long ends."
    )
    absolute_timeout: int = setting(
        Whole(1, 366 * DAY, unit="seconds"),
        default=28800,
        help="A login session ends so long after the login, whatever happens. A SAML provider may end it earlier.",
    )
    revocation_delay: float = setting(
        Seconds(MINUTE, zero=True),
        default=0.0,
        help=(
            "How long ago a process may have read a login session and its account; 0: at every request. See "
            "[login sessions](operations.md#login-sessions)."
        ),
    )


@table
class PasswordSettings:
    """Parameters of argon2id (RFC 9106), the limit of concurrent hashes, and the lifetime of a verified password."""

    memory_kib: int = setting(Whole(8, MOST_MEMORY_KIB, unit="KiB"), default=19456, help="Memory of one hash.")
    iterations: int = setting(Whole(1, MOST_ITERATIONS), default=2, help="Passes over that memory.")
    lanes: int = setting(Whole(1, MOST_LANES), default=1, help="Degree of parallelism.")
    concurrent_hashes: int = setting(
        Whole(1, 1024), default=4, help="Hashes at once in one process; more wait a little, then the answer is 503."
    )
    reuse_verified_for: float = setting(
        Seconds(DAY, zero=True), default=60, help="How long a good password is remembered; 0 switches that off."
    )


@table
class ThrottleSettings:
    """Limits of failures, in the notation of ``limits``: ``"10 per 5 minutes"``.

    :param storage_url: ``memory://`` or the URL of a Redis server; it may hold a password.
    """

    per_account: str = setting(
        Text(rules.limit, needed=True, kind="limit"),
        default="10 per 5 minutes",
        help="For one user name (known or not) of one contact center from one address.",
    )
    per_account_anywhere: str = setting(
        Text(rules.limit, needed=True, kind="limit"),
        default="50 per 15 minutes",
        help="For one user name from all addresses, but for those where this account has logged in within 30 days.",
    )
    per_address: str = setting(
        Text(rules.limit, needed=True, kind="limit"),
        default="300 per minute",
        help=(
            "For one client address; IPv6 by /64. Of SAML logins it may begin ten times as many, and 3,000 a "
            "minute in any case."
        ),
    )
    storage_url: str = setting(
        Text(kind="address"),
        default="memory://",
        repr=False,
        shown_default='that of the state if it is Redis, else `"memory://"`',
        help=(
            "Where all nodes count together: `redis://` or `rediss://`. `max_failures` of a Configuration Server "
            "is counted there, too."
        ),
    )
    fallback: bool = setting(
        Flag(),
        default=True,
        help=(
            "Where Redis does not answer, each process goes on counting for itself, and says so in the log. With "
            "`false` nobody logs in by password meanwhile (503)."
        ),
    )


@table
class Salesforce:
    """The Salesforce step of one contact center.

    :param organizations: ids of 15 characters; the checksum of longer ones was verified and removed.
    :param ca_file: the certificates from the file, in PEM form, or empty.
    """

    enabled: bool = setting(
        Flag(), default=True, kw_only=True, help="`false` switches the step off and leaves its settings."
    )
    organizations: frozenset[str] = setting(
        Listing(rules.organization, made=frozenset),
        help="Organization ids, of 15 characters or of 18 with their checksum.",
    )
    identity_hosts: tuple[AllowedHost, ...] = setting(
        Listing(addresses.allowed_host),
        default=(AllowedHost("login.salesforce.com"),),
        help="Hosts that an identity URL may name. A bare host means https on port 443.",
    )
    redirect_hosts: tuple[AllowedHost, ...] = setting(
        Listing(addresses.allowed_suffix),
        default=(AllowedHost(".my.salesforce.com"),),
        help="Hosts that may be redirected to; a leading dot makes a suffix.",
    )
    allow_http: bool = setting(
        Flag(), default=False, kw_only=True, help="Accept plain http, beyond loopback, in the two lists."
    )
    match: Literal["username", "email", "identity"] = setting(
        Choice("username", "email", "identity"),
        default="username",
        help=(
            'What an account is found by: `"username"`, `"email"` (must be verified there) or `"identity"` (a '
            "linked identity)."
        ),
    )
    timeout: float = setting(Seconds(60), default=3.0, help="For the whole step, redirects included.")
    reuse_verified_for: float = setting(
        Seconds(DAY, zero=True), default=60, help="How long a good session ID is remembered; 0 switches that off."
    )
    ca_file: str = setting(
        Location(str),
        default="",
        repr=False,
        shown_default="the system's",
        help="Certificates of the authorities to trust instead, in PEM.",
    )
    proxy: Proxy | None = setting(
        SecretField(),
        default=None,
        help=(
            "`http://host:port`, or `http://user:password@host:port`: the HTTP proxy that every request goes "
            "through, by `CONNECT`; for https addresses only. Proxies named in the environment are not used."
        ),
    )
    concurrent_calls: int = setting(
        Whole(1, 1024),
        default=CONCURRENT_CALLS,
        help=(
            "Calls to one server at the same time, in one process; a few more wait a moment, others get 503. Keep"
            " one and a half times as many (of 1: 2) below the threads of a worker. See "
            "[outages](operations.md#outages)."
        ),
    )


@table
class LdapAttributes:
    """The directory's attributes by our names for them; an empty one is not read."""

    username: str = setting(
        Text(rules.ldap_attribute),
        default="uid",
        help='For `match = "username"`. With Active Directory `"sAMAccountName"` or `"userPrincipalName"`.',
    )
    login_name: str = setting(Text(rules.ldap_attribute), default="", help='For `match = "login_name"`.')
    cme_user_name: str = setting(Text(rules.ldap_attribute), default="", help='For `match = "cme_user_name"`.')
    identity: str = setting(
        Text(rules.ldap_attribute),
        default="",
        help='For `match = "identity"`: what never changes, such as `"entryUUID"`, or `"objectGUID"`.',
    )
    email: str = setting(Text(rules.ldap_attribute), default="", help="For the application: `Identity.attributes`.")
    first_name: str = setting(Text(rules.ldap_attribute), default="", help="The same.")
    last_name: str = setting(Text(rules.ldap_attribute), default="", help="The same.")
    groups: str = setting(Text(rules.ldap_attribute), default="", help='What `role_map` maps, such as `"memberOf"`.')


@table
class Ldap:
    """The LDAP directory of a Configuration Server.

    :param role_map: role by group, in the form of ``distinguished_names.normal``.
    """

    servers: tuple[LdapServer, ...] = setting(
        Listing(addresses.ldap_server),
        help=(
            "Addresses such as `ldaps://ldap.acme.example` or `ldap://ldap.acme.example:389`, tried in turn "
            "within `timeout`."
        ),
    )
    start_tls: bool = setting(Flag(), default=True, help="Begin TLS on `ldap://` before anything else is sent.")
    allow_plain: bool = setting(
        Flag(), default=False, kw_only=True, help="Accept, beyond loopback, `ldap://` with `start_tls = false`."
    )
    user_dn: str = setting(
        Text(rules.user_dn_template),
        default="",
        help=(
            "Bind by template: a distinguished name with `{user}` for a whole value, such as "
            "`uid={user},ou=people,dc=acme,dc=example`."
        ),
    )
    base: str = setting(
        Text(rules.distinguished_name),
        default="",
        help="Search, then bind: where people are, such as `ou=people,dc=acme,dc=example`. Either this or `user_dn`.",
    )
    scope: Literal["subtree", "one_level"] = setting(
        Choice("subtree", "one_level"), default="subtree", help='How deep below `base`: `"subtree"` or `"one_level"`.'
    )
    filter: str = setting(
        Text(rules.user_filter, needed=True), default="(uid={user})", help="What finds a person there."
    )
    bind_dn: str = setting(
        Text(),
        default="",
        help=(
            "The service account that searches and reads. Without it the search is anonymous, and with `user_dn` "
            "people read their own entries."
        ),
    )
    bind_password: Secret | None = setting(SecretField(), default=None, help="Its password.")
    attributes: LdapAttributes = setting(Section(LdapAttributes), default=LdapAttributes())
    group_base: str = setting(
        Text(rules.distinguished_name), default="", help="Where groups are, if they have to be searched for."
    )
    group_filter: str = setting(
        Text(rules.group_filter, needed=True),
        default="(member={dn})",
        help=(
            "What finds the groups of a person there: `{dn}` is the distinguished name of their entry, `{user}` "
            "the user name in it (`attributes.username`)."
        ),
    )
    role_map: Mapping[str, str] = setting(
        TextMap(rules.role),
        default_factory=dict,
        help=(
            'Role by group, such as `{ "cn=cc-agents,ou=groups,dc=acme,dc=example" = "ROLE_AGENT" }`; a group '
            "that is not here gives nothing."
        ),
    )
    sync_roles: bool = setting(
        Flag(), default=False, help="Roles of the account here follow `role_map` whenever the directory was asked."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@table
class ConfigurationServer:
    """The Configuration Server step of one contact center.

    :param ca_file: the certificates from the file, in PEM form, or empty.
    """

    enabled: bool = setting(
        Flag(), default=True, kw_only=True, help="`false` switches the step off and leaves its settings."
    )
    directory: str = setting(
        Text(rules.directory, needed=True),
        default="genesys",
        help=(
            'Whom to ask: the Genesys Authentication REST, an LDAP directory (`"ldap"`), or your own '
            '`"package.module:Class"`.'
        ),
    )
    url: str = setting(
        Text(addresses.base_url, kind="address"),
        default="",
        shown_default='required with `"genesys"`',
        help="The base of the Authentication REST; `/auth/v3/...` is added.",
    )
    allow_http: bool = setting(
        Flag(), default=False, kw_only=True, help="Accept plain http, beyond loopback, in `url`."
    )
    client_id: str = setting(
        Text(), default="", shown_default='required with `"genesys"`', help="This application's client there."
    )
    client_secret: Secret = setting(
        SecretField(), default_factory=lambda: Secret(""), shown_default='required with `"genesys"`', help="Its secret."
    )
    tenant: str = setting(
        Text(rules.tenant, needed=True), default="Environment", help="Users are looked up as `tenant\\user`."
    )
    contact_center_id: str = setting(Text(), default="", help="When set, the answer must name this contact center.")
    match: Literal["username", "login_name", "cme_user_name", "identity"] = setting(
        Choice("username", "login_name", "cme_user_name", "identity"),
        default="username",
        help='What an account is found by: `"username"`, `"login_name"`, `"cme_user_name"` or `"identity"`.',
    )
    max_failures: str = setting(
        Text(rules.limit, needed=True, kind="limit"),
        default="2 per 15 minutes",
        help="Failures of one account, from anywhere, that may reach Genesys, which locks accounts.",
    )
    timeout: float = setting(Seconds(60), default=3.0, help="For the whole step.")
    reuse_verified_for: float = setting(
        Seconds(DAY, zero=True), default=60, help="How long a good password is remembered; 0 switches that off."
    )
    ca_file: str = setting(
        Location(str),
        default="",
        repr=False,
        shown_default="the system's",
        help="Certificates of the authorities to trust instead, in PEM.",
    )
    proxy: Proxy | None = setting(
        SecretField(),
        default=None,
        help=(
            "`http://host:port`, or `http://user:password@host:port`: the HTTP proxy that every request goes "
            'through, by `CONNECT`; for https addresses only. Not with `"ldap"`.'
        ),
    )
    concurrent_calls: int = setting(
        Whole(1, 1024),
        default=CONCURRENT_CALLS,
        help=(
            "Calls to one server at the same time, in one process; a few more wait a moment, others get 503. Keep"
            " one and a half times as many (of 1: 2) below the threads of a worker. See "
            "[outages](operations.md#outages)."
        ),
    )
    ldap: Ldap | None = setting(Section(Ldap), default=None)


@table
class WebServices:
    """The Web Services step of one contact center."""

    enabled: bool = setting(Flag(), default=True, kw_only=True, help="`false` switches the step off.")


@table
class SamlAttributes:
    """The provider's attributes by our names for them."""

    first_name: str = setting(Text(), default="", help="For accounts that the first login makes.")
    last_name: str = setting(Text(), default="", help="The same.")
    email: str = setting(Text(), default="", help="For the application: `Identity.attributes`.")
    groups: str = setting(Text(), default="", help="What `role_map` maps; it may have several values.")


@table
class KeyPair:
    """A private key and the certificate that publishes it, both in PEM."""

    key: Secret = setting(SecretField())
    certificate: str = setting(SecretField())


@table
class IdentityProvider:
    """One SAML identity provider of one contact center.

    :param name: the name of its table.
    :param metadata: an existing file, or an http(s) URL.
    :param metadata_certificate: PEM, or empty.
    :param email_domains: in lower case.
    :param attributes: the provider's attribute by ours, as in :class:`SamlAttributes`; none is empty.
    """

    name: str
    metadata: Path | str = setting(
        Location(rules.metadata, kind="file or address"),
        help=(
            "The provider's metadata. A file is read when the application starts and again when it changes; an "
            "https address at its first use and every `metadata_refresh` seconds, in the background."
        ),
    )
    metadata_refresh: int = setting(
        Whole(MINUTE, 7 * DAY, unit="seconds"),
        default=3600,
        help="How often metadata from an address are fetched anew, between a minute and a week.",
    )
    metadata_certificate: str = setting(
        SecretField(), default="", help="The certificate in PEM of the one key that must have signed the metadata."
    )
    allow_http: bool = setting(
        Flag(),
        default=False,
        kw_only=True,
        help=(
            "Accept a metadata address on plain http that is not on loopback; asks for `metadata_certificate`, "
            "and for a `validUntil` in the metadata."
        ),
    )
    entity_id: str = setting(
        Text(rules.uri),
        default="",
        shown_default="the only one there",
        help="Which provider, where the metadata describe several.",
    )
    binding: Literal["redirect", "post"] = setting(
        Choice("redirect", "post"), default="redirect", help="How our AuthnRequest travels."
    )
    allow_unsolicited: bool = setting(Flag(), default=False, help="Accept logins that begin at the provider.")
    match: str = setting(
        Text(rules.saml_match, needed=True),
        default="name_id",
        help='The value that an account\'s linked identity carries: the NameID, or `"attribute:NAME"`.',
    )
    link_by: Literal["", "user_name"] = setting(
        Choice("", "user_name"),
        default="",
        help=(
            "At the first login, link the account of that name, if it has no identity of this provider yet; needs"
            " `email_domains`."
        ),
    )
    email_domains: frozenset[str] = setting(
        Listing(rules.email_domain, made=frozenset),
        default=frozenset(),
        help="When set, this provider may speak for e-mail addresses of these domains only.",
    )
    name_id_format: str = setting(Text(rules.uri), default="", help="The NameID format that AuthnRequests ask for.")
    authn_context: tuple[str, ...] = setting(
        Listing(rules.uri),
        default=(),
        help="Authentication context classes that are asked for; an answer with another is refused.",
    )
    force_authn: bool = setting(Flag(), default=False, help="Always ask the provider to authenticate the user anew.")
    single_logout: bool = setting(
        Flag(), default=True, help="Logging out goes on to the provider, if it offers that and we have a `signing_key`."
    )
    want_response_signed: bool = setting(
        Flag(), default=False, help="Demand a signature over the whole response, not of the assertion alone."
    )
    allow_sha1: bool = setting(Flag(), default=False, help="A relaxation: accept signatures and digests with SHA-1.")
    allow_cbc: bool = setting(Flag(), default=False, help="A relaxation: accept content encrypted with AES-CBC.")
    allow_rsa15: bool = setting(Flag(), default=False, help="A relaxation: accept keys transported with RSA 1.5.")
    provision: bool = setting(Flag(), default=False, help="Make an account at the first login.")
    attributes: Mapping[str, str] = setting(Names(SamlAttributes), default_factory=dict)
    role_map: Mapping[str, str] = setting(
        TextMap(rules.role),
        default_factory=dict,
        help=(
            'Role by group, such as `{ "cc-agents" = "ROLE_AGENT" }`; a group that is not here gives nothing. '
            "Needs `attributes.groups`."
        ),
    )
    sync_roles: bool = setting(
        Flag(), default=False, help="Roles follow `role_map` at every login, not only when the account is made."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@table
class Saml:
    """The SAML step of one contact center.

    :param identity_providers: at least one, by name, in the configuration's order.
    :param signing_certificate: PEM, as is ``next_signing_certificate``, or empty.
    """

    identity_providers: Mapping[str, IdentityProvider] = setting(Tables(IdentityProvider, rules.provider_name))
    enabled: bool = setting(
        Flag(), default=True, kw_only=True, help="`false` switches the step off and leaves its settings."
    )
    entity_id: str = setting(
        Text(rules.uri), default="", shown_default="the metadata address", help="What this contact center calls itself."
    )
    signing_key: Secret | None = setting(
        SecretField(),
        default=None,
        help="A private RSA key in PEM, without passphrase. With it all messages are signed; single logout needs it.",
    )
    signing_certificate: str = setting(
        SecretField(), default="", help="Its certificate in PEM, published in the metadata."
    )
    next_signing_certificate: str = setting(
        SecretField(),
        default="",
        help="The certificate of the next signing key, published beside it while the key rolls over.",
    )
    encryption_keys: tuple[KeyPair, ...] = setting(
        TableList(KeyPair),
        default=(),
        help="`{ key, certificate }` in PEM: any of them may decrypt; the metadata ask providers to use the first.",
    )
    sign_metadata: bool = setting(Flag(), default=False, help="Sign our metadata with `signing_key`.")
    metadata_lifetime: int = setting(
        Whole(5 * MINUTE, 366 * DAY, unit="seconds"),
        default=172800,
        help="For how long a copy of our metadata says that it is valid.",
    )
    clock_skew: int = setting(
        Whole(0, 600, unit="seconds"),
        default=60,
        help="How far the provider's clock may differ, the same for every check.",
    )
    request_lifetime: int = setting(
        Whole(1, DAY, unit="seconds"), default=600, help="Within which a login that was begun must be finished."
    )
    cross_check: bool = setting(
        Flag(), default=False, help="python3-saml must accept every response too, after all checks of our own."
    )
    force_authn_after_logout: bool = setting(
        Flag(), default=False, help="The login after a logout asks the provider to authenticate anew."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity_providers", MappingProxyType(dict(self.identity_providers)))


@table
class ContactCenterSettings:
    """One table of ``contact_centers``. A step whose settings are ``None`` is disabled here.

    :param name: the table's name, which SAML URLs contain.
    :param public_url: ``scheme://host[:port]``, perhaps with a path, without a trailing slash, or empty.
    :param allowed_origins: serialized origins (RFC 6454 6.2), lower case.
    """

    name: str
    id: str = setting(
        Text(rules.header_value), shown_default="the table's name", help="What the `ContactCenterId` header carries."
    )
    hosts: frozenset[str] = setting(
        Listing(addresses.served_host, made=frozenset),
        default=frozenset(),
        help="Requests to these hosts belong here: `portal.acme.example`, or with a port.",
    )
    domains: frozenset[str] = setting(
        Listing(rules.domain, made=frozenset),
        default=frozenset(),
        help="User names that end in `@` and one of these belong here.",
    )
    realms: frozenset[str] = setting(
        Listing(rules.realm, made=frozenset),
        default=frozenset(),
        help="User names that begin with one of these and `\\` belong here.",
    )
    public_url: str = setting(
        Text(addresses.base_url, kind="address"),
        default="",
        shown_default="the global one",
        help="What the outside calls this contact center. Where several have SAML, its host must be in `hosts`.",
    )
    allow_http: bool = setting(
        Flag(),
        default=False,
        kw_only=True,
        help="Accept plain http, beyond loopback, in `public_url` and `allowed_origins`.",
    )
    allowed_origins: frozenset[str] = setting(
        Listing(addresses.origin, made=frozenset),
        default=frozenset(),
        help="Origins whose scripts may call with credentials (CORS), such as `https://acme.my.salesforce.com`.",
    )
    salesforce: Salesforce | None = setting(Section(Salesforce), default=None)
    configuration_server: ConfigurationServer | None = setting(Section(ConfigurationServer), default=None)
    web_services: WebServices | None = setting(Section(WebServices), default=None)
    saml: Saml | None = setting(Section(Saml), default=None)


@table
class Settings:
    """The whole of ``app.config["GENESYS_AUTH"]``.

    :param base_path: absolute.
    :param state_url: as configured; the path of a SQLite file is absolute, in ``accounts_url``, too.
    :param files: the files that the configuration names, without SQLite's. They are not part of the values.
    """

    contact_centers: Mapping[str, ContactCenterSettings] = setting(Tables(ContactCenterSettings, rules.table_name))
    base_path: Path = setting(
        Location(Path), shown_default="the instance folder", help="The folder that relative paths are relative to."
    )
    public_url: str = setting(
        Text(addresses.base_url, kind="address"),
        default="",
        help=(
            "What the outside calls the application, such as `https://portal.acme.example`. Needed for SAML only."
            " A `Host` header is never used to build an address."
        ),
    )
    allow_http: bool = setting(
        Flag(), default=False, kw_only=True, help="Accept a `public_url` on plain http that is not on loopback."
    )
    default_contact_center: str = setting(
        Text(kind="name"),
        default="",
        shown_default="the only one there is",
        help="The contact center of a request that names none.",
    )
    state_url: str = setting(
        Text(needed=True, kind="address"),
        default="memory://",
        repr=False,
        shown_default="`sqlite:///state.sqlite3` in `base_path`",
        help=(
            "Where login sessions and one-time keys are kept: `memory://` (one process, lost at its end), a "
            "SQLite file (one machine), or for several nodes PostgreSQL, "
            "`postgresql+psycopg://user:password@host:5432/database` (needs `pip install "
            '"flask-genesys-auth[postgresql]"`), or Redis or Valkey, `redis://` or '
            '`rediss://user:password@host:6379/0` (needs `pip install "flask-genesys-auth[redis]"`). See '
            "[stores](operations.md#stores)."
        ),
    )
    state_namespace: str = setting(
        Text(rules.namespace),
        default="",
        shown_default="the application's name",
        help=(
            "What every key of the state carries, so that two applications on one store never accept each other's"
            " sessions."
        ),
    )
    state_timeout: float = setting(
        Seconds(60),
        default=1.0,
        help="How long the state (and the accounts) may take to answer before that counts as unavailable.",
    )
    accounts_url: str = setting(
        Text(kind="address"),
        default="",
        repr=False,
        shown_default="`sqlite:///accounts.sqlite3` in `base_path`",
        help="Any SQLAlchemy address. Not used when `GenesysAuth(accounts=...)` brings a store.",
    )
    extra_steps: tuple[str, ...] = setting(
        Listing(rules.dotted_name),
        default=(),
        help='Further steps of the chain, each `"package.module:Class"`. See [your own step](flow.md#your-own-step).',
    )
    protect_by_default: bool = setting(Flag(), default=True, help="Whether an endpoint that says nothing is protected.")
    unprotected_endpoints: frozenset[str] = setting(
        Listing(made=frozenset),
        default=frozenset(),
        help="Endpoints that everybody reaches, by name, for views that cannot carry a mark. A mark outranks it.",
    )
    take_over_loaders: bool = setting(
        Flag(),
        default=False,
        help="Replace the loaders of the application's own `LoginManager`; without it their presence is an error.",
    )
    unauthenticated_status: Literal[401, 403] = setting(
        Choice(401, 403),
        default=401,
        help="The status of a refusal for want of authentication; older Web Services answered 403.",
    )
    saml_url_prefix: str = setting(
        Text(rules.url_prefix, kind="path"), default="/saml", help="Where the SAML addresses are."
    )
    login_view: str = setting(
        Text(kind="endpoint"), default="", help="The application's own login page; browsers go there where SAML is off."
    )
    languages: tuple[str, ...] = setting(
        Listing(language_tag),
        default=(ENGLISH_TAG,),
        shown_default="English, and those of `texts`",
        help=(
            "The languages that pages are in, the first for browsers that ask for none of them. See "
            "[texts](pages.md#texts)."
        ),
    )
    texts: Mapping[str, Mapping[str, str]] = setting(
        Translations(),
        default_factory=dict,
        help=(
            "By a language's tag, texts of the pages by their names, such as `texts.de.sign_in`. See "
            "[texts](pages.md#texts)."
        ),
    )
    salesforce_headers: SalesforceHeaders = setting(Section(SalesforceHeaders), default=SalesforceHeaders())
    session: SessionSettings = setting(Section(SessionSettings), default=SessionSettings())
    passwords: PasswordSettings = setting(Section(PasswordSettings), default=PasswordSettings())
    throttle: ThrottleSettings = setting(Section(ThrottleSettings), default=ThrottleSettings())
    files: tuple[NamedFile, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "contact_centers", MappingProxyType(dict(self.contact_centers)))
        texts = {tag: MappingProxyType(dict(table)) for tag, table in self.texts.items()}
        object.__setattr__(self, "texts", MappingProxyType(texts))

    @property
    def saml_enabled(self) -> bool:
        """Tell whether any contact center has SAML."""
        return any(center.saml is not None for center in self.contact_centers.values())
