"""Changes accounts at a login: SAML may link or create an account and set its roles; LDAP may set its roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..chain.protocols import EnrollingStore
from ..config.names import lower_ascii
from ..errors import ConfigurationError
from ..events import Event, log_event

if TYPE_CHECKING:
    from ..chain.outcomes import Identity
    from ..chain.protocols import AccountStore
    from ..config.settings import IdentityProvider, Settings

_METHODS = (
    "requires an account store with the methods link_by_name, provision and follow_roles: add them to the store given "
    "to GenesysAuth(accounts=...), or remove the key"
)


def enrol(accounts: AccountStore[Any], identity: Identity, provider: IdentityProvider) -> None:
    """Link, create or update the account of an identity, as the provider's configuration says.

    ``sync_roles`` sets a known account's roles from the groups. ``link_by`` links an unknown identity to the account
    of its name: the provider must be allowed to assert the name's e-mail domain, and the account must have no other
    value of this provider. Otherwise ``provision`` creates an account, if the name is free.

    :param identity: verified by this provider; its subject is the value that an account is linked to.
    :raises AccountsUnavailable: if the store does not answer.
    """
    if not _enrolling_keys(provider) or not isinstance(accounts, EnrollingStore):
        return
    roles = _roles(identity, provider.role_map)
    if accounts.find(identity) is not None:
        if provider.sync_roles and accounts.follow_roles(identity, roles):
            _log("roles_followed", "set the roles from the groups of", identity)
        return
    if _linked(accounts, identity, provider):
        _log("linked", "linked the account of", identity)
        if provider.sync_roles:
            accounts.follow_roles(identity, roles)
    elif _created(accounts, identity, provider, roles):
        _log("made", "created an account for", identity)
    else:
        _log("none", "linked and created no account (name taken, disabled, foreign or not storable) for", identity)


def follow_groups(accounts: AccountStore[Any], identity: Identity, role_map: Mapping[str, str]) -> None:
    """Set the roles of an identity's account from the groups that a directory returned; create no account.

    :param role_map: role by group, named as in the identity.
    :raises AccountsUnavailable: if the store does not answer.
    """
    if isinstance(accounts, EnrollingStore) and accounts.follow_roles(identity, _roles(identity, role_map)):
        _log("roles_followed", "set the roles from the groups of", identity)


def check_enrolment(accounts: AccountStore[Any], settings: Settings) -> None:
    """Check that the store supports the configured enrolment.

    :raises ConfigurationError: with each key that the store does not support, and the methods that it lacks.
    """
    if not isinstance(accounts, EnrollingStore):
        problems = list(_unsupported(settings))
        if problems:
            raise ConfigurationError(*problems)


def _unsupported(settings: Settings) -> Iterator[str]:
    for center in settings.contact_centers.values():
        directory = center.configuration_server
        if directory is not None and directory.ldap is not None and directory.ldap.sync_roles:
            yield f"contact_centers.{center.name}.configuration_server.ldap.sync_roles: {_METHODS}"
        for provider in center.saml.identity_providers.values() if center.saml else ():
            for key in _enrolling_keys(provider):
                yield f"contact_centers.{center.name}.saml.identity_providers.{provider.name}.{key}: {_METHODS}"


def _enrolling_keys(provider: IdentityProvider) -> list[str]:
    return [key for key in ("link_by", "provision", "sync_roles") if getattr(provider, key)]


def _roles(identity: Identity, role_map: Mapping[str, str]) -> frozenset[str]:
    """Return the roles of the identity's groups; other groups give no role."""
    groups = identity.attributes.get("groups", ())
    named = (groups,) if isinstance(groups, str) else groups
    return frozenset(role_map[group] for group in named if group in role_map)


def _linked(accounts: EnrollingStore, identity: Identity, provider: IdentityProvider) -> bool:
    subject = identity.subject
    if not provider.link_by or not _may_assert(subject, provider):
        return False
    return accounts.link_by_name(identity.contact_center, subject, provider.name, subject)


def _created(accounts: EnrollingStore, identity: Identity, provider: IdentityProvider, roles: frozenset[str]) -> bool:
    foreign = provider.email_domains and not _may_assert(identity.subject, provider)
    return provider.provision and not foreign and accounts.provision(identity, roles)


def _may_assert(subject: str, provider: IdentityProvider) -> bool:
    local, _, domain = subject.rpartition("@")
    return bool(local) and "@" not in local and lower_ascii(domain) in provider.email_domains


def _log(outcome: str, detail: str, identity: Identity) -> None:
    log_event(
        Event.ACCOUNT_ENROLLED,
        step=identity.step,
        outcome=outcome,
        contact_center=identity.contact_center,
        account=identity.subject,
        provider=identity.provider or identity.step,
        detail=detail,
    )
