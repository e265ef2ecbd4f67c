"""What the configuration may say: one schema for each table, and :func:`load_settings`, which reads it whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validates_schema

from . import addresses, ldap, rules
from .build import Build
from .fields import (
    Choice,
    Flag,
    Listing,
    Location,
    Seconds,
    SecretField,
    TableList,
    Tables,
    Text,
    TextMap,
    Translations,
    Whole,
)
from .problems import Problems, nearest
from .texts import language_tag
from .values import Settings

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MAX_TIMEOUT = 60


class Table(Schema):
    """The base of all: unknown keys are refused by name, an upper-case twin of a known key is taken as that key."""

    class Meta:
        """Unknown keys are refused by :meth:`check_keys`, which names the nearest known one."""

        unknown = EXCLUDE

    def __init__(self) -> None:
        super().__init__()
        self.error_messages["type"] = "must be a table"

    @pre_load
    def take_twins(self, data: object, **kwargs: object) -> object:
        """Take ``PUBLIC_URL``, as environment variables make it, for ``public_url``.

        Below such a key the names of tables were spelled for the environment too: ``ACME`` is ``acme`` there.
        """
        if not isinstance(data, Mapping):
            return data
        taken = {}
        for key, value in data.items():
            known = self._known(key)
            if known is None or (known != key and known in data):
                continue
            if known != key and isinstance(self.fields[known], Tables):
                value = _lowered(value)
            taken[known] = value
        return taken

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_keys(self, data: object, original: object, **kwargs: object) -> None:
        """Refuse what is unknown, and what is given twice."""
        if not isinstance(original, Mapping):
            return
        errors = {}
        for key in original:
            known = self._known(key)
            if known is None:
                close = nearest(key, self.fields) if isinstance(key, str) else ""
                errors[key] = [f"is not a known key{close}"]
            elif known != key and known in original:
                errors[known] = [f"is given twice, as {known} and as {key}"]
        if errors:
            raise ValidationError(errors)

    def _known(self, key: object) -> str | None:
        if not isinstance(key, str):
            return None
        if key in self.fields:
            return key
        lowered = key.lower()
        return lowered if lowered in self.fields and key == lowered.upper() else None


def _lowered(tables: object) -> object:
    if not isinstance(tables, Mapping):
        return tables
    return {
        key.lower() if isinstance(key, str) and key.isupper() and key.lower() not in tables else key: value
        for key, value in tables.items()
    }


class _SalesforceHeaders(Table):
    session = Text(rules.header_name, needed=True)
    identity = Text(rules.header_name, needed=True)


class _Session(Table):
    idle_timeout = Whole(1, 366 * _DAY)
    absolute_timeout = Whole(1, 366 * _DAY)
    revocation_delay = Seconds(_MINUTE, zero=True)


class _Passwords(Table):
    memory_kib = Whole(8, 4 * 1024 * 1024)
    iterations = Whole(1, 1000)
    lanes = Whole(1, 255)
    concurrent_hashes = Whole(1, 1024)
    reuse_verified_for = Seconds(_DAY, zero=True)


class _Throttle(Table):
    storage_url = Text()
    fallback = Flag()
    per_account = Text(rules.limit, needed=True)
    per_account_anywhere = Text(rules.limit, needed=True)
    per_address = Text(rules.limit, needed=True)


class _Salesforce(Table):
    enabled = Flag()
    organizations = Listing(rules.organization)
    identity_hosts = Listing(addresses.allowed_host)
    redirect_hosts = Listing(addresses.allowed_suffix)
    allow_http = Flag()
    match = Choice("username", "email", "identity")
    timeout = Seconds(_MAX_TIMEOUT)
    reuse_verified_for = Seconds(_DAY, zero=True)
    ca_file = Location(str)
    proxy = SecretField()
    concurrent_calls = Whole(1, 1024)


class _LdapAttributes(Table):
    username = Text(rules.ldap_attribute)
    login_name = Text(rules.ldap_attribute)
    cme_user_name = Text(rules.ldap_attribute)
    identity = Text(rules.ldap_attribute)
    email = Text(rules.ldap_attribute)
    first_name = Text(rules.ldap_attribute)
    last_name = Text(rules.ldap_attribute)
    groups = Text(rules.ldap_attribute)


class _Ldap(Table):
    servers = Listing(ldap.server)
    start_tls = Flag()
    allow_plain = Flag()
    user_dn = Text(ldap.user_name_template)
    base = Text(ldap.name)
    scope = Choice("subtree", "one_level")
    filter = Text(ldap.user_filter, needed=True)
    bind_dn = Text()
    bind_password = SecretField()
    attributes = fields.Nested(_LdapAttributes())
    group_base = Text(ldap.name)
    group_filter = Text(ldap.group_filter, needed=True)
    role_map = TextMap(rules.role)
    sync_roles = Flag()


class _ConfigurationServer(Table):
    enabled = Flag()
    directory = Text(rules.directory, needed=True)
    url = Text(addresses.base_url)
    allow_http = Flag()
    client_id = Text()
    client_secret = SecretField()
    tenant = Text(rules.tenant, needed=True)
    contact_center_id = Text()
    match = Choice("username", "login_name", "cme_user_name", "identity")
    max_failures = Text(rules.limit, needed=True)
    timeout = Seconds(_MAX_TIMEOUT)
    reuse_verified_for = Seconds(_DAY, zero=True)
    ca_file = Location(str)
    proxy = SecretField()
    concurrent_calls = Whole(1, 1024)
    ldap = fields.Nested(_Ldap())


class _WebServices(Table):
    enabled = Flag()


class _Attributes(Table):
    first_name = Text()
    last_name = Text()
    email = Text()
    groups = Text()


class _IdentityProvider(Table):
    metadata = Location(rules.metadata)
    metadata_refresh = Whole(_MINUTE, 7 * _DAY)
    metadata_certificate = SecretField()
    allow_http = Flag()
    entity_id = Text(rules.uri)
    binding = Choice("redirect", "post")
    allow_unsolicited = Flag()
    match = Text(rules.saml_match, needed=True)
    link_by = Choice("", "user_name")
    email_domains = Listing(rules.email_domain)
    name_id_format = Text(rules.uri)
    authn_context = Listing(rules.uri)
    force_authn = Flag()
    single_logout = Flag()
    want_response_signed = Flag()
    allow_sha1 = Flag()
    allow_cbc = Flag()
    allow_rsa15 = Flag()
    provision = Flag()
    attributes = fields.Nested(_Attributes())
    role_map = TextMap(rules.role)
    sync_roles = Flag()


class _KeyPair(Table):
    key = SecretField()
    certificate = SecretField()


class _Saml(Table):
    enabled = Flag()
    entity_id = Text(rules.uri)
    signing_key = SecretField()
    signing_certificate = SecretField()
    next_signing_certificate = SecretField()
    encryption_keys = TableList(_KeyPair())
    sign_metadata = Flag()
    metadata_lifetime = Whole(5 * _MINUTE, 366 * _DAY)
    clock_skew = Whole(0, 600)
    request_lifetime = Whole(1, _DAY)
    cross_check = Flag()
    force_authn_after_logout = Flag()
    identity_providers = Tables(_IdentityProvider(), rules.provider_name)


class _ContactCenter(Table):
    id = Text(rules.header_value)
    hosts = Listing(addresses.served_host)
    domains = Listing(rules.domain)
    realms = Listing(rules.realm)
    public_url = Text(addresses.base_url)
    allow_http = Flag()
    allowed_origins = Listing(addresses.origin)
    salesforce = fields.Nested(_Salesforce())
    configuration_server = fields.Nested(_ConfigurationServer())
    web_services = fields.Nested(_WebServices())
    saml = fields.Nested(_Saml())


class _Root(Table):
    base_path = Location(Path)
    public_url = Text(addresses.base_url)
    allow_http = Flag()
    default_contact_center = Text()
    state_url = Text(needed=True)
    state_namespace = Text(rules.namespace)
    state_timeout = Seconds(_MAX_TIMEOUT)
    accounts_url = Text()
    extra_steps = Listing(rules.dotted_name)
    protect_by_default = Flag()
    unprotected_endpoints = Listing()
    take_over_loaders = Flag()
    unauthenticated_status = Choice(401, 403)
    saml_url_prefix = Text(rules.url_prefix)
    login_view = Text()
    languages = Listing(language_tag)
    texts = Translations()
    salesforce_headers = fields.Nested(_SalesforceHeaders())
    session = fields.Nested(_Session())
    passwords = fields.Nested(_Passwords())
    throttle = fields.Nested(_Throttle())
    contact_centers = Tables(_ContactCenter(), rules.table_name)


def load_settings(mapping: object, *, base_path: Path, app_name: str) -> Settings:
    """Read ``app.config["GENESYS_AUTH"]`` whole.

    :param mapping: tables of plain values, as ``tomllib``, ``from_prefixed_env`` or Python make them.
    :param base_path: the absolute folder that relative paths are relative to, unless the mapping names another.
    :param app_name: the default of ``state_namespace``.
    :raises ConfigurationError: with every problem, each with its dotted path; none quotes a secret.
    """
    problems = Problems()
    data = _loaded(mapping, problems)
    build = Build(data, problems, base_path=base_path, app_name=app_name)
    build.check()
    problems.check()
    return build.settings()


def _loaded(mapping: object, problems: Problems) -> dict[str, Any]:
    # marshmallow's error carries what it was given, secrets included: it must not become anybody's context.
    try:
        loaded: dict[str, Any] = _Root().load(mapping)  # type: ignore[arg-type]  # checked by the schema
    except ValidationError as error:
        problems.add_messages(error.messages)
        valid = error.valid_data
        return dict(valid) if isinstance(valid, Mapping) else {}
    return loaded
