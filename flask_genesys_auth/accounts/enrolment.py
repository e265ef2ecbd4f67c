"""What a login may do to accounts before it is somebody here.

By SAML: link one, make one, let its roles follow groups. By an LDAP directory: the last alone.
"""

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


def enrol(accounts: AccountStore[Any], identity: Identity, provider: IdentityProvider) -> None:
    """Do what the provider's configuration says for somebody it has just proven; whoever is nobody stays nobody.

    Someone known has their roles follow their groups (``sync_roles``). Someone unknown gets the account of their name
    (``link_by``, where the provider may speak for the name's e-mail domain and the account knows no other value of
    it), else a new one (``provision``, where the name is free).

    :param identity: proven by this provider; its subject is the value that an account is linked to.
    :raises AccountsUnavailable: if the store does not answer.
    """
    if not _wanted(provider) or not isinstance(accounts, EnrollingStore):
        return
    roles = _roles(identity, provider.role_map)
    if accounts.find(identity) is not None:
        if provider.sync_roles and accounts.follow_roles(identity, roles):
            _note("roles_followed", "roles follow the groups of", identity)
        return
    if _linked(accounts, identity, provider):
        _note("linked", "linked the account of", identity)
        if provider.sync_roles:
            accounts.follow_roles(identity, roles)
    elif _made(accounts, identity, provider, roles):
        _note("made", "made an account for", identity)
    else:
        finding = "no account was linked or made (its name is taken, disabled, foreign or unusable) for"
        _note("none", finding, identity)


def follow_groups(accounts: AccountStore[Any], identity: Identity, role_map: Mapping[str, str]) -> None:
    """Give the account of somebody whom a directory has just proven the roles of their groups, and no other.

    Whoever has no account gets none.

    :param role_map: role by group, named as in the identity.
    :raises AccountsUnavailable: if the store does not answer.
    """
    if isinstance(accounts, EnrollingStore) and accounts.follow_roles(identity, _roles(identity, role_map)):
        _note("roles_followed", "roles follow the groups of", identity)


def check_enrolment(accounts: AccountStore[Any], settings: Settings) -> None:
    """See to it that the store can do what the configuration asks of it.

    :raises ConfigurationError: naming the providers whose keys it cannot follow, and what it lacks.
    """
    if not isinstance(accounts, EnrollingStore):
        problems = list(_asking(settings))
        if problems:
            raise ConfigurationError(*problems)


def _asking(settings: Settings) -> Iterator[str]:
    for center in settings.contact_centers.values():
        directory = center.configuration_server
        if directory is not None and directory.ldap is not None and directory.ldap.sync_roles:
            yield (
                f"contact_centers.{center.name}.configuration_server.ldap: sync_roles needs an account store with "
                "link_by_name(), provision() and follow_roles(); the one given to GenesysAuth has them not"
            )
        for provider in center.saml.identity_providers.values() if center.saml else ():
            if _wanted(provider):
                yield (
                    f"contact_centers.{center.name}.saml.identity_providers.{provider.name}: link_by, provision and "
                    "sync_roles need an account store with link_by_name(), provision() and follow_roles(); the one "
                    "given to GenesysAuth has them not"
                )


def _wanted(provider: IdentityProvider) -> bool:
    return bool(provider.link_by or provider.provision or provider.sync_roles)


def _roles(identity: Identity, role_map: Mapping[str, str]) -> frozenset[str]:
    """Return the roles of the person's groups; a group that nobody has mapped gives nothing."""
    groups = identity.attributes.get("groups", ())
    named = (groups,) if isinstance(groups, str) else groups
    return frozenset(role_map[group] for group in named if group in role_map)


def _linked(accounts: EnrollingStore, identity: Identity, provider: IdentityProvider) -> bool:
    subject = identity.subject
    if not provider.link_by or not _may_speak_for(subject, provider):
        return False
    return accounts.link_by_name(identity.contact_center, subject, provider.name, subject)


def _made(accounts: EnrollingStore, identity: Identity, provider: IdentityProvider, roles: frozenset[str]) -> bool:
    foreign = provider.email_domains and not _may_speak_for(identity.subject, provider)
    return provider.provision and not foreign and accounts.provision(identity, roles)


def _may_speak_for(subject: str, provider: IdentityProvider) -> bool:
    local, _, domain = subject.rpartition("@")
    return bool(local) and "@" not in local and lower_ascii(domain) in provider.email_domains


def _note(outcome: str, what: str, identity: Identity) -> None:
    log_event(
        Event.ACCOUNT_ENROLLED,
        step=identity.step,
        outcome=outcome,
        contact_center=identity.contact_center,
        account=identity.subject,
        provider=identity.provider or identity.step,
        detail=what,
    )
