"""What an operator does about each reason: one table for ``explain``, ``doctor`` and the documentation."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..chain.outcomes import Reason

if TYPE_CHECKING:
    from ..chain.outcomes import Identity

_WEB_SERVICES = "web_services"
_GONE = "Log in again: the account of this login session is gone."
_FOREIGN_ACCOUNT = (
    "Add or link the account in the application's own account store (the value is in the detail), or enable it."
)

STEP_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "no_evidence": "Nothing: the request carries nothing that this step reads.",
        "disabled": "Nothing, or give contact_centers.{contact_center} this step's table.",
        "explicit_credentials": "Send no credentials that are wrong: they outrank the login session.",
        "other_contact_center": "Log in to this contact center: the session or account is another one's.",
        "no_contact_center": "Name the contact center: ContactCenterId, hosts, realms, domains, organizations, or "
        "default_contact_center.",
        "browser_login": "Nothing: this login takes a browser; look its failure up with --reference.",
        "malformed_credentials": "Mend the client: the header cannot be read.",
        "contact_center_conflict": "Let the request name one contact center: look at its ContactCenterId header, host, "
        "user name and organization, and at hosts, domains, realms and organizations.",
        "unknown_contact_center": "Send a ContactCenterId that is there, or set it as id of a contact center.",
        "bad_credentials": "Let the user try again, or set another password where the step looks it up.",
        "refused": "Ask whoever wrote the step: it gives no reason of its own.",
        "no_account": "Add the account: flask genesys-auth accounts add {contact_center} USER_NAME; or link one: "
        "flask genesys-auth accounts link {contact_center} USER_NAME PROVIDER=VALUE",
        "account_disabled": "Enable it: flask genesys-auth accounts enable {contact_center} USER_NAME",
        "identity_url_not_allowed": "Add its host to contact_centers.{contact_center}.salesforce.identity_hosts, if it "
        "is Salesforce's.",
        "organization_not_listed": "Add it to contact_centers.{contact_center}.salesforce.organizations, if it is "
        "yours.",
        "session_refused": "Look in Salesforce: session ids of Lightning pages and of profiles without API access are "
        'refused, and "Lock sessions to the IP address" refuses every one that a server brings.',
        "foreign_identity": "Let the page send its own user's session id and identity URL.",
        "inactive_identity": "Activate the user in Salesforce.",
        "email_not_verified": "Let the user verify the e-mail address in Salesforce, or set salesforce.match.",
        "unexpected_redirect": "Add the organization's own host to "
        "contact_centers.{contact_center}.salesforce.redirect_hosts, if it is Salesforce's.",
        "other_tenant": "Look at contact_centers.{contact_center}.configuration_server.contact_center_id and tenant.",
        "ambiguous_name": "Narrow ldap.base or ldap.filter: the directory has more than one entry of this name.",
        "disabled_in_directory": "Enable the account in the directory.",
        "locked_in_directory": "Unlock the account in the directory; keep max_failures below its limit.",
        "expired_in_directory": "Extend the account in the directory.",
        "password_expired": "Let the user change the password in the directory.",
        "password_must_change": "Let the user change the password in the directory, as it demands.",
        "logon_restricted": "Look in the directory when, and from where, this account may log on.",
        "session_ended": "Log in again: it was logged out or revoked, or has timed out (session.idle_timeout, "
        "absolute_timeout).",
        "throttled": "Wait until then; look in the log for who failed, and from where. The limits are in throttle, and "
        "configuration_server.max_failures.",
        "unreachable": "Look at that server and the way to it: name, port, proxy, firewall, certificate.",
        "timed_out": "Look at that server; its time is the step's timeout.",
        "server_error": "Look at that server's own log, and at the detail.",
        "unreadable_answer": "See what answers at that address: it is not what it should be.",
        "circuit_open": "Look at that server and the way to it; nothing needs a restart here.",
        "upstream_busy": "Look whether that server is slow; else raise concurrent_calls.",
        "hasher_busy": "Run more processes, or lower passwords.memory_kib; is somebody guessing?",
        "throttle_unavailable": "Look at the server in throttle.storage_url, or set throttle.fallback.",
        "state_unavailable": "Look at the server in state_url.",
        "accounts_unavailable": "Look at the database in accounts_url.",
    }
)
"""By :class:`~flask_genesys_auth.Reason`."""

BY_STEP: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("bad_credentials", "configuration_server"): "Let the user try again; else set another password in "
        "Configuration Server, or in the directory that contact_centers.{contact_center}.configuration_server names.",
        ("bad_credentials", "web_services"): "Let the user try again; else set another password: flask genesys-auth "
        "accounts set-password {contact_center} USER_NAME",
        ("no_account", "configuration_server"): "Give the person the attribute that the detail "
        "names in the directory, or set contact_centers.{contact_center}.configuration_server.match to another.",
        ("throttled", "salesforce"): "Wait until then; look in the log for who failed, and from where. The limits are "
        "in throttle.",
        ("throttled", "web_services"): "Wait until then; look in the log for who failed, and from where. The limits "
        "are in throttle.",
    }
)
"""By reason and step, where it is another advice than the reason alone would have."""

FOREIGN_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "bad_credentials": "Let the user try again; else set another password in the application's own account store.",
        "no_account": "Add or link the account in the application's own account store.",
        "account_disabled": "Enable it in the application's own account store.",
        "accounts_unavailable": "Look at the application's own account store, and at the detail.",
    }
)
"""By reason, where the application has an account store of its own: no command writes there.

What a directory or a further step has refused is not mended there.
"""

SAML_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "too_large": "Let the provider send less: fewer groups, for example.",
        "malformed": "See what was sent: it is no SAML message of the binding that the address takes.",
        "forbidden_xml": "Nothing, if it was an attack; else ask the provider why it sends such XML.",
        "structure": "Let the provider send one assertion, in a Response of SAML 2.0.",
        "duplicate_id": "Nothing, if it was an attack; else ask the provider why IDs repeat.",
        "encrypted": "Let the provider encrypt as our metadata ask for it, or set saml.encryption_keys.",
        "signature_form": "Nothing, if it was an attack; else let the provider sign the Assertion or the Response.",
        "algorithm": "Let the provider use RSA or ECDSA with SHA-256; allow_sha1 and allow_cbc are for old ones.",
        "status": "Look in the provider's log: it has refused the login itself.",
        "not_signed": "Let the provider sign the assertion itself, not the response around it alone; and its logout "
        "messages.",
        "bad_signature": "Fetch the provider's metadata: flask genesys-auth saml refresh {contact_center}; its key may "
        "have changed.",
        "schema": "Ask the provider's maker: its message is not valid SAML.",
        "decryption": "Give the provider our present metadata: flask genesys-auth saml metadata {contact_center}",
        "cross_check": "Report it to us: python3-saml disagrees. Set cross_check = false only once you know why.",
        "unsolicited": "Begin the login here, not at the provider, or set allow_unsolicited. If it was begun here: it "
        "took longer than request_lifetime, or another node answered whose state is its own.",
        "in_response_to": "Try again: the message answers another login than this one.",
        "relay_state": "Let the provider send RelayState back as it came.",
        "issuer": "Compare entity_id of contact_centers.{contact_center}.saml.identity_providers with the issuer.",
        "other_contact_center": "Begin the login at this contact center; is one application at the provider shared?",
        "destination": "Compare both addresses: public_url, and the ACS address at the provider.",
        "recipient": "Compare both addresses: public_url, and the ACS address at the provider.",
        "audience": "Set the audience at the provider to ours (our entity id). Keep an old entity id of yours "
        "(saml.entity_id) only if no other service has it.",
        "confirmation": "Let the provider send a bearer confirmation with an end.",
        "conditions": "Let the provider send Conditions with NotOnOrAfter, and none that nobody here understands.",
        "not_yet_valid": "Compare the clocks in the detail: set both by NTP; clock_skew bridges small gaps.",
        "expired": "Compare the clocks in the detail: set both by NTP; clock_skew bridges small gaps.",
        "session_expired": "Let the user log in at the provider anew; compare the clocks in the detail.",
        "metadata_expired": "Renew the provider's metadata: flask genesys-auth saml refresh {contact_center}",
        "authn_statement": "Let the provider say when and how it has authenticated the user.",
        "authn_context": "Let the provider authenticate as authn_context and force_authn ask for it.",
        "name_id": "Let the provider send a lasting NameID, or set match to an attribute.",
        "attribute": "Let the provider send the attribute that match names, with one value.",
        "email_domain": "Add the domain to email_domains, if this provider may speak for it.",
        "replayed": "Nothing: the user has sent the form again. Let them begin anew.",
        "code": "Let the user begin anew: the page was opened again, or too late.",
        "other_browser": "Let the user begin anew in one browser, with cookies; in a frame of another site they are "
        "blocked. Is the application called by the host of public_url?",
        "account": "Link the account: flask genesys-auth accounts link {contact_center} USER_NAME {provider}=VALUE "
        "(the value is in the detail); or add one: flask genesys-auth accounts add {contact_center} USER_NAME "
        "--identity {provider}=VALUE; or enable it; see link_by and provision.",
        "logged_out": "Nothing: the provider has ended this login meanwhile. Let the user begin anew.",
    }
)
"""By :class:`~flask_genesys_auth.saml.errors.Fault`."""


def for_reason(
    reason: Reason,
    contact_center: str | None,
    identity: Identity | None = None,
    *,
    step: str = "",
    own_store: bool = False,
) -> str:
    """Return what to do about a step that did not succeed.

    :param identity: who was proven where there is no account: then it is said what to type.
    :param step: which step it was.
    :param own_store: whether the application has an account store of its own, which no command of ours writes.
    """
    center = contact_center or "CONTACT_CENTER"
    if reason is Reason.NO_ACCOUNT and identity is not None:
        return _where_it_is_missing(identity) if own_store else _account_commands(identity)
    told = BY_STEP.get((str(reason), step), STEP_ADVICE[str(reason)])
    elsewhere = reason is Reason.BAD_CREDENTIALS or (str(reason), step) in BY_STEP
    if own_store and (step == _WEB_SERVICES or not elsewhere):
        told = FOREIGN_ADVICE.get(str(reason), told)
    return told.format(contact_center=center)


def for_fault(fault: str, contact_center: str, provider: str, *, own_store: bool = False) -> str:
    """Return what to do about a SAML message that was refused; nothing for a code of another release.

    :param own_store: as above.
    """
    told = _FOREIGN_ACCOUNT if own_store and fault == "account" else SAML_ADVICE.get(fault, "")
    return told.format(contact_center=contact_center, provider=provider or "PROVIDER")


def _account_commands(identity: Identity) -> str:
    center, value = shlex.quote(identity.contact_center), identity.subject
    if identity.matched_by == "identity":
        linked = shlex.quote(f"{identity.provider}={value}")
        return (
            f"Link the account: flask genesys-auth accounts link {center} USER_NAME {linked}; or add one: "
            f"flask genesys-auth accounts add {center} USER_NAME --identity {linked}"
        )
    if identity.matched_by == "account_id":
        return _GONE
    return f"Add the account: flask genesys-auth accounts add {center} {shlex.quote(value)}"


def _where_it_is_missing(identity: Identity) -> str:
    """Say what the application's own store does not know; how it is put there, only the application knows."""
    if identity.matched_by == "identity":
        return (
            f"Link an account of {identity.contact_center} to {identity.provider}={identity.subject} in the "
            "application's own account store."
        )
    if identity.matched_by == "account_id":
        return _GONE
    kind = "e-mail address" if identity.matched_by == "email" else "user name"
    return (
        f"Add an account of {identity.contact_center} with the {kind} {identity.subject} to the application's own "
        "account store."
    )
