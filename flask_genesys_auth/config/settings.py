"""Declares each configuration key once, in the dataclass of its table.

The schemas (``fields.schema_of``) and the tables of ``docs/configuration.md`` are derived from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from . import addresses, rules
from .addresses import AllowedHost, LdapServer, Proxy
from .fields import (
    Section,
    Tables,
    choice,
    flag,
    listing,
    location,
    names,
    seconds,
    secret,
    setting,
    table,
    table_list,
    text,
    text_map,
    translations,
    whole,
)
from .secrets import Secret
from .texts import ENGLISH_TAG, language_tag

MINUTE = 60
DAY = 24 * 60 * MINUTE

CONCURRENT_CALLS = 4
"""Concurrent calls to one server: fewer than the usual 8 threads of a worker, so that other requests find a thread."""

MOST_MEMORY_KIB = 1024 * 1024
"""The bounds of argon2id for the configuration and for stored hashes: a hash beyond a bound is not verified."""
MOST_ITERATIONS = 64
MOST_LANES = 64

_DISABLE_STEP = "`false` disables the step and keeps its settings."


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names.

    :param key: the dotted path of the key that names it.
    :param secret: whether its content is secret.
    """

    key: str
    path: Path
    secret: bool


def _header(default: str, content: str) -> Any:
    return _text(f"The header with the {content}.", rules.header_name, default=default, nonempty=True, kind="header")


def _limit(default: str, meaning: str) -> Any:
    return _text(meaning, rules.limit, default=default, nonempty=True, kind="limit")


def _reuse_verified_for(credential: str) -> Any:
    meaning = f"How long a verified {credential} stays cached; 0 disables the cache."
    return setting(seconds(DAY, zero=True), default=60, help=meaning)


def _timeout() -> Any:
    return setting(seconds(60), default=3.0, help="For the whole step, however many requests it sends.")


def _ca_file() -> Any:
    return setting(
        location(str),
        default="",
        repr=False,
        shown_default="the system's",
        help="The certificate authorities to trust instead of the system's, in PEM.",
    )


def _proxy(exception: str = "") -> Any:
    meaning = (
        "`http://host:port` or `http://user:password@host:port`: the HTTP proxy for every request (`CONNECT`, https "
        f"URLs only). Proxies from the environment are not used.{exception}"
    )
    return setting(secret(), default=None, help=meaning)


def _concurrent_calls() -> Any:
    meaning = (
        "Concurrent calls to one server in one process. A few more requests wait briefly; the others get 503. Keep one "
        "and a half times this number (2 for 1) below the threads of a worker. See [outages](outages.md)."
    )
    return setting(whole(1, 1024), default=CONCURRENT_CALLS, help=meaning)


def _flag(meaning: str, *, default: bool = False) -> Any:
    return setting(flag(), default=default, help=meaning)


def _allow_http(keys: str) -> Any:
    meaning = f"Accept plain http to hosts other than loopback in {keys}."
    return setting(flag(), default=False, kw_only=True, help=meaning)


def _set_of(parse: Callable[[str], str], meaning: str) -> Any:
    return setting(listing(parse, collection=frozenset), default=frozenset(), help=meaning)


def _certificate(meaning: str) -> Any:
    return setting(secret(), default="", help=meaning)


def _text(
    meaning: str,
    parse: Callable[[str], str] = str,
    *,
    default: str = "",
    nonempty: bool = False,
    kind: str = "text",
    shown_default: str = "",
) -> Any:
    field = text(parse, nonempty=nonempty, kind=kind)
    return setting(field, default=default, shown_default=shown_default, help=meaning)


def _ldap_attribute(meaning: str, default: str = "") -> Any:
    return _text(meaning, rules.ldap_attribute, default=default)


def _role_map(meaning: str) -> Any:
    return setting(text_map(rules.role), default_factory=dict, help=meaning)


@table
class SalesforceHeaders:
    """The names of the two request headers of the Salesforce step."""

    session: str = _header("ssid", "Salesforce session ID")
    identity: str = _header("surl", "Salesforce identity URL")


@table
class SessionSettings:
    """The lifetime of a login session, in seconds."""

    idle_timeout: int = setting(
        whole(1, 366 * DAY, unit="seconds"), default=1800, help="A login session expires after this time without use."
    )
    absolute_timeout: int = setting(
        whole(1, 366 * DAY, unit="seconds"),
        default=28800,
        help="A login session expires at the latest this long after the login; a SAML provider may end it earlier.",
    )
    revocation_delay: float = setting(
        seconds(MINUTE, zero=True),
        default=0.0,
        help=(
            "How long a process may reuse a login session and its account once read; 0 reads both at every request. "
            "See [login sessions](operations.md#login-sessions)."
        ),
    )


@table
class PasswordSettings:
    """Parameters of argon2id (RFC 9106), the limit of concurrent hashes, and the cache of verified passwords."""

    memory_kib: int = setting(whole(8, MOST_MEMORY_KIB, unit="KiB"), default=19456, help="Memory per hash.")
    iterations: int = setting(whole(1, MOST_ITERATIONS), default=2, help="Passes over that memory.")
    lanes: int = setting(whole(1, MOST_LANES), default=1, help="Degree of parallelism.")
    concurrent_hashes: int = setting(
        whole(1, 1024), default=4, help="Concurrent hashes in one process. Other requests wait briefly, then get 503."
    )
    reuse_verified_for: float = _reuse_verified_for("password")


@table
class ThrottleSettings:
    """Limits of failures, in the notation of ``limits``: ``"10 per 5 minutes"``.

    :param storage_url: ``memory://`` or the URL of a Redis server; it may hold a password.
    """

    per_account: str = _limit(
        "10 per 5 minutes", "Failures of one user name (known or not) in one contact center from one client address."
    )
    per_account_anywhere: str = _limit(
        "50 per 15 minutes",
        "Failures of one user name from all client addresses, except those where the account logged in within 30 days.",
    )
    per_address: str = _limit(
        "300 per minute",
        "Failures from one client address (IPv6: one /64). The address may begin ten times as many SAML logins, "
        "and at least 3,000 per minute.",
    )
    storage_url: str = setting(
        text(kind="URL"),
        default="memory://",
        repr=False,
        shown_default='the state\'s if that is Redis, else `"memory://"`',
        help=(
            "Where all nodes count failures together: `redis://` or `rediss://`. The `max_failures` of a "
            "Configuration Server are counted there too."
        ),
    )
    fallback: bool = _flag(
        "If Redis fails, each process counts on its own and logs a warning. `false` refuses logins with a password "
        "(503) until Redis answers again.",
        default=True,
    )


@table
class Salesforce:
    """The Salesforce step of one contact center.

    :param organizations: ids of 15 characters; the checksum of longer ones was verified and removed.
    :param ca_file: the certificates of the file, in PEM, or empty.
    """

    enabled: bool = setting(flag(), default=True, kw_only=True, help=_DISABLE_STEP)
    organizations: frozenset[str] = setting(
        listing(rules.organization, collection=frozenset),
        help="Organization ids of 15 characters, or of 18 with their checksum.",
    )
    identity_hosts: tuple[AllowedHost, ...] = setting(
        listing(addresses.allowed_host),
        default=(AllowedHost("login.salesforce.com"),),
        help="Hosts that an identity URL may name. A bare host means https on port 443.",
    )
    redirect_hosts: tuple[AllowedHost, ...] = setting(
        listing(addresses.allowed_suffix),
        default=(AllowedHost(".my.salesforce.com"),),
        help="Hosts that Salesforce may redirect to. A leading dot allows every host below the domain.",
    )
    allow_http: bool = _allow_http("both lists")
    match: Literal["username", "email", "identity"] = setting(
        choice("username", "email", "identity"),
        default="username",
        help='How an account is found: by `"username"`, `"email"` (verified at Salesforce) or linked `"identity"`.',
    )
    timeout: float = _timeout()
    reuse_verified_for: float = _reuse_verified_for("session ID")
    ca_file: str = _ca_file()
    proxy: Proxy | None = _proxy()
    concurrent_calls: int = _concurrent_calls()


@table
class LdapAttributes:
    """The directory's attributes by our names for them; an empty one is not read."""

    username: str = _ldap_attribute(
        'For `match = "username"`; in Active Directory `"sAMAccountName"` or `"userPrincipalName"`.', "uid"
    )
    login_name: str = _ldap_attribute('For `match = "login_name"`.')
    cme_user_name: str = _ldap_attribute('For `match = "cme_user_name"`.')
    identity: str = _ldap_attribute(
        'For `match = "identity"`: an attribute that never changes, such as `"entryUUID"` or `"objectGUID"`.'
    )
    email: str = _ldap_attribute("For the application, in `Identity.attributes`.")
    first_name: str = _ldap_attribute("For the application, in `Identity.attributes`.")
    last_name: str = _ldap_attribute("For the application, in `Identity.attributes`.")
    groups: str = _ldap_attribute('The groups that `role_map` maps, such as `"memberOf"`.')


@table
class Ldap:
    """The LDAP directory of a Configuration Server.

    :param role_map: role by group, in the form of ``names.normalise_dn``.
    """

    servers: tuple[LdapServer, ...] = setting(
        listing(addresses.ldap_server),
        help=(
            "URLs such as `ldaps://ldap.acme.example` or `ldap://ldap.acme.example:389`, tried in this order within "
            "`timeout`."
        ),
    )
    start_tls: bool = _flag("Start TLS on `ldap://` before sending anything else.", default=True)
    allow_plain: bool = setting(
        flag(), default=False, kw_only=True, help="Accept `ldap://` without TLS to hosts other than loopback."
    )
    user_dn: str = _text(
        "Bind by template: a distinguished name with `{user}` as one whole value, such as "
        "`uid={user},ou=people,dc=acme,dc=example`. Set this or `base`.",
        rules.user_dn_template,
    )
    base: str = _text(
        "Search, then bind: the entry below which users are, such as `ou=people,dc=acme,dc=example`.",
        rules.distinguished_name,
    )
    scope: Literal["subtree", "one_level"] = setting(
        choice("subtree", "one_level"), default="subtree", help="How deep to search below `base`."
    )
    filter: str = _text("The filter that finds a user.", rules.user_filter, default="(uid={user})", nonempty=True)
    bind_dn: str = _text(
        "The service account that searches and reads. Without it, the search is anonymous; with `user_dn`, users "
        "read their own entries."
    )
    bind_password: Secret | None = setting(secret(), default=None, help="The password of `bind_dn`.")
    attributes: LdapAttributes = setting(Section(LdapAttributes), default=LdapAttributes())
    group_base: str = _text("The entry below which groups are searched for.", rules.distinguished_name)
    group_filter: str = _text(
        "The filter that finds a user's groups: `{dn}` is the distinguished name of the user's entry, `{user}` "
        "its `attributes.username`.",
        rules.group_filter,
        default="(member={dn})",
        nonempty=True,
    )
    role_map: Mapping[str, str] = _role_map(
        'Role by group, such as `{ "cn=cc-agents,ou=groups,dc=acme,dc=example" = "ROLE_AGENT" }`. Other groups give '
        "no role."
    )
    sync_roles: bool = _flag("Set the account's roles from `role_map` whenever the directory verifies a password.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@table
class ConfigurationServer:
    """The Configuration Server step of one contact center.

    :param ca_file: the certificates of the file, in PEM, or empty.
    """

    enabled: bool = setting(flag(), default=True, kw_only=True, help=_DISABLE_STEP)
    directory: str = _text(
        'Where credentials are verified: the Genesys Authentication REST (`"genesys"`), an LDAP directory '
        '(`"ldap"`), or your own `"package.module:Class"`.',
        rules.directory,
        default="genesys",
        nonempty=True,
    )
    url: str = _text(
        "The base URL of the Authentication REST; `/auth/v3/...` is appended.",
        addresses.base_url,
        kind="URL",
        shown_default='required with `"genesys"`',
    )
    allow_http: bool = _allow_http("`url`")
    client_id: str = _text("The id of this application at Genesys.", shown_default='required with `"genesys"`')
    client_secret: Secret = setting(
        secret(),
        default_factory=lambda: Secret(""),
        shown_default='required with `"genesys"`',
        help="The secret of `client_id`.",
    )
    tenant: str = _text("Users are looked up as `tenant\\user`.", rules.tenant, default="Environment", nonempty=True)
    contact_center_id: str = _text("If set, the answer must name this contact center.")
    match: Literal["username", "login_name", "cme_user_name", "identity"] = setting(
        choice("username", "login_name", "cme_user_name", "identity"),
        default="username",
        help="The value in the answer that an account is found by.",
    )
    max_failures: str = _limit(
        "2 per 15 minutes",
        "Failures of one account, from all client addresses, that may reach Genesys, which locks accounts.",
    )
    timeout: float = _timeout()
    reuse_verified_for: float = _reuse_verified_for("password")
    ca_file: str = _ca_file()
    proxy: Proxy | None = _proxy(' Not with `directory = "ldap"`.')
    concurrent_calls: int = _concurrent_calls()
    ldap: Ldap | None = setting(Section(Ldap), default=None)


@table
class WebServices:
    """The Web Services step of one contact center."""

    enabled: bool = setting(flag(), default=True, kw_only=True, help=_DISABLE_STEP)


@table
class SamlAttributes:
    """The provider's attributes by our names for them."""

    first_name: str = _text("For accounts that the first login creates.")
    last_name: str = _text("For accounts that the first login creates.")
    email: str = _text("For the application, in `Identity.attributes`.")
    groups: str = _text("The groups that `role_map` maps; it may have several values.")


@table
class KeyPair:
    """A private key and the certificate that publishes it, both in PEM."""

    key: Secret = setting(secret())
    certificate: str = setting(secret())


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
        location(rules.metadata, kind="file or URL"),
        help=(
            "The provider's metadata. A file is read at start and again when it changes. An https URL is fetched at "
            "first use and, in the background, every `metadata_refresh` seconds."
        ),
    )
    metadata_refresh: int = setting(
        whole(MINUTE, 7 * DAY, unit="seconds"), default=3600, help="How often to fetch the metadata of a URL."
    )
    metadata_certificate: str = _certificate(
        "The certificate, in PEM, of the one key that must have signed the metadata."
    )
    allow_http: bool = setting(
        flag(),
        default=False,
        kw_only=True,
        help=(
            "Accept a metadata URL on plain http to a host other than loopback. Requires `metadata_certificate`, and "
            "`validUntil` in the metadata."
        ),
    )
    entity_id: str = _text(
        "Which provider to use if the metadata describe several.", rules.uri, shown_default="the only one there"
    )
    binding: Literal["redirect", "post"] = setting(
        choice("redirect", "post"), default="redirect", help="How the AuthnRequest is sent."
    )
    allow_unsolicited: bool = _flag("Accept logins that start at the provider.")
    match: str = _text(
        'The value that accounts are linked by: `"name_id"` or `"attribute:NAME"`.',
        rules.saml_match,
        default="name_id",
        nonempty=True,
    )
    link_by: Literal["", "user_name"] = setting(
        choice("", "user_name"),
        default="",
        help=(
            "At the first login, link the account with this user name if it has no identity of this provider yet. "
            "Requires `email_domains`."
        ),
    )
    email_domains: frozenset[str] = _set_of(
        rules.email_domain, "If set, this provider may assert e-mail addresses of these domains only."
    )
    name_id_format: str = _text("The NameID format that AuthnRequests request.", rules.uri)
    authn_context: tuple[str, ...] = setting(
        listing(rules.uri),
        default=(),
        help="Authentication context classes to request; responses with another class are rejected.",
    )
    force_authn: bool = _flag("Always have the provider authenticate the user again.")
    single_logout: bool = _flag(
        "Log out at the provider too, if it supports that and a `signing_key` is set.", default=True
    )
    want_response_signed: bool = _flag(
        "Require a signature over the whole response; one over the assertion is not enough."
    )
    allow_sha1: bool = _flag("A relaxation: accept signatures and digests with SHA-1.")
    allow_cbc: bool = _flag("A relaxation: accept content encrypted with AES-CBC.")
    allow_rsa15: bool = _flag("A relaxation: accept keys transported with RSA 1.5.")
    provision: bool = _flag("Create an account at the first login.")
    attributes: Mapping[str, str] = setting(names(SamlAttributes), default_factory=dict)
    role_map: Mapping[str, str] = _role_map(
        'Role by group, such as `{ "cc-agents" = "ROLE_AGENT" }`. Other groups give no role. Requires '
        "`attributes.groups`."
    )
    sync_roles: bool = _flag("Set roles from `role_map` at every login, not only when the account is created.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@table
class Saml:
    """The SAML step of one contact center.

    :param identity_providers: at least one, by name, in the configuration's order.
    :param signing_certificate: PEM, or empty; so is ``next_signing_certificate``.
    """

    identity_providers: Mapping[str, IdentityProvider] = setting(Tables(IdentityProvider, rules.provider_name))
    enabled: bool = setting(flag(), default=True, kw_only=True, help=_DISABLE_STEP)
    entity_id: str = _text("The entity ID of this contact center.", rules.uri, shown_default="the metadata URL")
    signing_key: Secret | None = setting(
        secret(),
        default=None,
        help="A private RSA key in PEM, without passphrase. It signs all messages; single logout requires it.",
    )
    signing_certificate: str = _certificate("The certificate of `signing_key`, in PEM; published in the metadata.")
    next_signing_certificate: str = _certificate(
        "The certificate of the next signing key, published as well during a key rollover."
    )
    encryption_keys: tuple[KeyPair, ...] = setting(
        table_list(KeyPair),
        default=(),
        help="`{ key, certificate }` in PEM. Every key decrypts; the metadata contain all certificates in this order.",
    )
    sign_metadata: bool = _flag("Sign the published metadata with `signing_key`.")
    metadata_lifetime: int = setting(
        whole(5 * MINUTE, 366 * DAY, unit="seconds"),
        default=172800,
        help="How long a copy of the published metadata stays valid.",
    )
    clock_skew: int = setting(
        whole(0, 600, unit="seconds"), default=60, help="How far the provider's clock may differ, in every check."
    )
    request_lifetime: int = setting(
        whole(1, DAY, unit="seconds"), default=600, help="A login must finish this long after it started."
    )
    cross_check: bool = _flag("Have python3-saml verify every response as well, after our own checks.")
    force_authn_after_logout: bool = _flag("After a logout, have the provider authenticate the user again.")

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
        text(rules.header_value), shown_default="the table's name", help="The value of the `ContactCenterId` header."
    )
    hosts: frozenset[str] = _set_of(
        addresses.served_host,
        "Requests to these hosts belong to this contact center: `portal.acme.example`, or with a port.",
    )
    domains: frozenset[str] = _set_of(
        rules.domain, "User names that end in `@` and one of these domains belong to this contact center."
    )
    realms: frozenset[str] = _set_of(
        rules.realm, "User names that begin with one of these realms and `\\` belong to this contact center."
    )
    public_url: str = _text(
        "The public URL of this contact center. If several have SAML, list its host in `hosts`.",
        addresses.base_url,
        kind="URL",
        shown_default="the global one",
    )
    allow_http: bool = _allow_http("`public_url` and `allowed_origins`")
    allowed_origins: frozenset[str] = _set_of(
        addresses.origin,
        "Origins whose scripts may call with credentials (CORS), such as `https://acme.my.salesforce.com`.",
    )
    salesforce: Salesforce | None = setting(Section(Salesforce), default=None)
    configuration_server: ConfigurationServer | None = setting(Section(ConfigurationServer), default=None)
    web_services: WebServices | None = setting(Section(WebServices), default=None)
    saml: Saml | None = setting(Section(Saml), default=None)


@table
class Settings:
    """The whole of ``app.config["GENESYS_AUTH"]``.

    :param base_path: absolute.
    :param state_url: as configured, except that the path of a SQLite file is absolute; ``accounts_url`` likewise.
    :param files: the files that the configuration names, except SQLite's. Not part of the values.
    """

    contact_centers: Mapping[str, ContactCenterSettings] = setting(Tables(ContactCenterSettings, rules.table_name))
    base_path: Path = setting(
        location(Path), shown_default="the instance folder", help="The folder that relative paths start from."
    )
    public_url: str = _text(
        "The public URL of the application, such as `https://portal.acme.example`. Required for SAML only. URLs "
        "are never built from a `Host` header.",
        addresses.base_url,
        kind="URL",
    )
    allow_http: bool = _allow_http("`public_url`")
    default_contact_center: str = _text(
        "The contact center of requests that name none.", kind="name", shown_default="the only one there is"
    )
    state_url: str = setting(
        text(nonempty=True, kind="URL"),
        default="memory://",
        repr=False,
        shown_default="`sqlite:///state.sqlite3` in `base_path`",
        help=(
            "Where login sessions and one-time keys are stored. One process: `memory://`, lost when it exits. One "
            "machine: a SQLite file. Several nodes: PostgreSQL, "
            "`postgresql+psycopg://user:password@host:5432/database` (`pip "
            'install "flask-genesys-auth[postgresql]"`), or Redis or Valkey, `redis://` or '
            '`rediss://user:password@host:6379/0` (`pip install "flask-genesys-auth[redis]"`). See '
            "[stores](stores.md)."
        ),
    )
    state_namespace: str = _text(
        "The prefix of every state key: applications that share a store never accept each other's sessions.",
        rules.namespace,
        shown_default="the application's name",
    )
    state_timeout: float = setting(
        seconds(60),
        default=1.0,
        help="How long the state and the accounts may take to answer; then they count as unavailable.",
    )
    accounts_url: str = setting(
        text(kind="URL"),
        default="",
        repr=False,
        shown_default="`sqlite:///accounts.sqlite3` in `base_path`",
        help="The SQLAlchemy URL of the accounts. Not used with `GenesysAuth(accounts=...)`.",
    )
    extra_steps: tuple[str, ...] = setting(
        listing(rules.dotted_name),
        default=(),
        help='Further steps of the chain, each `"package.module:Class"`. See [your own step](flow.md#your-own-step).',
    )
    protect_by_default: bool = _flag("Protect endpoints that have no decorator.", default=True)
    unprotected_endpoints: frozenset[str] = _set_of(
        str, "Names of unprotected endpoints, for views that cannot be decorated. A decorator takes precedence."
    )
    take_over_loaders: bool = _flag(
        "Replace the loaders of the application's own `LoginManager`. If `false`, existing loaders are an error."
    )
    unauthenticated_status: Literal[401, 403] = setting(
        choice(401, 403),
        default=401,
        help="The status if authentication is required but missing; older Web Services answered 403.",
    )
    saml_url_prefix: str = _text("The path of the SAML endpoints.", rules.url_prefix, default="/saml", kind="path")
    login_view: str = _text(
        "The endpoint of the application's own login page, where browsers are sent if SAML is disabled.",
        kind="endpoint",
    )
    languages: tuple[str, ...] = setting(
        listing(language_tag),
        default=(ENGLISH_TAG,),
        shown_default="English, and those of `texts`",
        help="The languages of the pages. Browsers that accept none get the first. See [texts](pages.md#texts).",
    )
    texts: Mapping[str, Mapping[str, str]] = setting(
        translations(),
        default_factory=dict,
        help="Texts of the pages by language tag and name, such as `texts.de.sign_in`. See [texts](pages.md#texts).",
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
        """Return whether any contact center has SAML."""
        return any(center.saml is not None for center in self.contact_centers.values())
