"""The advice for each reason: one table for ``explain``, ``doctor`` and ``docs/reasons.md``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..chain.outcomes import Reason

if TYPE_CHECKING:
    from ..chain.outcomes import Identity

_WEB_SERVICES = "web_services"
_ACCOUNT_DELETED = "Log in again: the account of this login session no longer exists."
_LIMITS = "Wait, or look up the failed attempts in the log. The limits are set in throttle"
_CLOCKS = "Compare the clocks in the detail and synchronise both by NTP; clock_skew tolerates small differences."
_ADDRESSES = "Compare public_url with the ACS address that is configured at the provider."

STEP_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "no_evidence": "Nothing: the request carries no credentials for this step.",
        "disabled": "Nothing, or add this step's table to contact_centers.{contact_center}.",
        "explicit_credentials": "Send no wrong credentials: credentials in a request override the login session.",
        "other_contact_center": "Log in to this contact center: the session or account belongs to another one.",
        "no_contact_center": "Name the contact center: ContactCenterId, hosts, realms, domains, organizations, or "
        "default_contact_center.",
        "browser_login": "Nothing: this login needs a browser; look up a failure with --reference.",
        "malformed_credentials": "Correct the client: the header cannot be parsed.",
        "contact_center_conflict": "Name one contact center in the request: compare its ContactCenterId header, host, "
        "user name and organization with hosts, domains, realms and organizations.",
        "unknown_contact_center": "Send a configured ContactCenterId, or set it as id of a contact center.",
        "bad_credentials": "Let the user try again, or reset the password where the step looks it up.",
        "refused": "Ask the author of the step: it returned no reason of its own.",
        "no_account": "Add the account: flask genesys-auth accounts add {contact_center} USER_NAME; or link one: "
        "flask genesys-auth accounts link {contact_center} USER_NAME PROVIDER=VALUE",
        "account_disabled": "Enable it: flask genesys-auth accounts enable {contact_center} USER_NAME",
        "identity_url_not_allowed": "Add its host to contact_centers.{contact_center}.salesforce.identity_hosts, if it "
        "belongs to Salesforce.",
        "organization_not_listed": "Add it to contact_centers.{contact_center}.salesforce.organizations, if it is "
        "yours.",
        "session_refused": "Check Salesforce: it refuses session ids of Lightning pages and of profiles without API "
        'access; with "Lock sessions to the IP address" it refuses every session id that a server sends.',
        "foreign_identity": "Send the session id and identity URL of the same user.",
        "inactive_identity": "Activate the user in Salesforce.",
        "email_not_verified": "Let the user verify the e-mail address in Salesforce, or set salesforce.match.",
        "unexpected_redirect": "Add the organization's own host to "
        "contact_centers.{contact_center}.salesforce.redirect_hosts, if it belongs to Salesforce.",
        "other_tenant": "Check contact_centers.{contact_center}.configuration_server.contact_center_id and tenant.",
        "ambiguous_name": "Narrow ldap.base or ldap.filter: the directory has more than one entry with this name.",
        "disabled_in_directory": "Enable the account in the directory.",
        "locked_in_directory": "Unlock the account in the directory; keep max_failures below its limit.",
        "expired_in_directory": "Extend the account in the directory.",
        "password_expired": "Let the user change the password in the directory.",
        "password_must_change": "Let the user change the password in the directory, which requires it.",
        "logon_restricted": "Check the logon hours and workstations of this account in the directory.",
        "session_ended": "Log in again: the session was logged out or revoked, or has timed out "
        "(session.idle_timeout, absolute_timeout).",
        "throttled": f"{_LIMITS} and configuration_server.max_failures.",
        "unreachable": "Check the server and the connection to it: host name, port, proxy, firewall, certificate.",
        "timed_out": "Check the server; the limit is the step's timeout.",
        "server_error": "Check the server's own log, and the detail.",
        "unreadable_answer": "Check which service answers at this address: the response has an unexpected format.",
        "circuit_open": "Check the server and the connection to it; nothing needs a restart here.",
        "upstream_busy": "Check whether the server is slow; otherwise raise concurrent_calls.",
        "hasher_busy": "Check the log for password guessing; run more processes, or lower passwords.memory_kib.",
        "throttle_unavailable": "Check the server in throttle.storage_url, or set throttle.fallback.",
        "state_unavailable": "Check the server in state_url.",
        "accounts_unavailable": "Check the database in accounts_url.",
    }
)
"""By :class:`~flask_genesys_auth.Reason`."""

BY_STEP: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("bad_credentials", "configuration_server"): "Let the user try again; else reset the password in "
        "Configuration Server, or in the directory that contact_centers.{contact_center}.configuration_server names.",
        ("bad_credentials", "web_services"): "Let the user try again; else set another password: flask genesys-auth "
        "accounts set-password {contact_center} USER_NAME",
        ("no_account", "configuration_server"): "Add the attribute in the detail to the user's directory entry, or "
        "set contact_centers.{contact_center}.configuration_server.match to another one.",
        ("throttled", "salesforce"): f"{_LIMITS}.",
        ("throttled", "web_services"): f"{_LIMITS}.",
    }
)
"""By reason and step, where the step needs other advice than the reason alone."""

FOREIGN_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "bad_credentials": "Let the user try again; else reset the password in the application's own account store.",
        "no_account": "Add or link the account in the application's own account store.",
        "account_disabled": "Enable it in the application's own account store.",
        "accounts_unavailable": "Check the application's own account store, and the detail.",
    }
)
"""By reason, for an application with its own account store, to which no command writes.

Rejections by a directory or an extra step are not corrected there.
"""

SAML_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "too_large": "Configure the provider to send less: fewer groups, for example.",
        "malformed": "Check what was sent: it is not a SAML message in the binding of this address.",
        "forbidden_xml": "Nothing, if it was an attack; else ask the provider why it sends such XML.",
        "structure": "Configure the provider to send one assertion in a SAML 2.0 Response.",
        "duplicate_id": "Nothing, if it was an attack; else ask the provider why IDs repeat.",
        "encrypted": "Configure the provider to encrypt as our metadata require, or set saml.encryption_keys.",
        "signature_form": "Nothing, if it was an attack; else configure the provider to sign the Assertion or the "
        "Response.",
        "algorithm": "Configure the provider to use RSA or ECDSA with SHA-256; allow_sha1 and allow_cbc admit old "
        "providers.",
        "status": "Check the provider's log: the provider refused the login.",
        "not_signed": "Configure the provider to sign its assertions, not only the Response, and its logout messages.",
        "bad_signature": "Fetch the provider's metadata: flask genesys-auth saml refresh {contact_center}; its key may "
        "have changed.",
        "schema": "Report it to the provider's vendor: the message is not valid SAML.",
        "decryption": "Give the provider our current metadata: flask genesys-auth saml metadata {contact_center}",
        "cross_check": "Report it as a bug: python3-saml disagrees. Set cross_check = false only once you know why.",
        "unsolicited": "Begin the login here, not at the provider, or set allow_unsolicited. If it was begun here, it "
        "took longer than request_lifetime, or the nodes do not share one state.",
        "in_response_to": "Try again: the message answers another login than this one.",
        "relay_state": "Configure the provider to return RelayState unchanged.",
        "issuer": "Compare entity_id of contact_centers.{contact_center}.saml.identity_providers with the issuer.",
        "other_contact_center": "Begin the login at this contact center; check whether several share one application "
        "at the provider.",
        "destination": _ADDRESSES,
        "recipient": _ADDRESSES,
        "audience": "Set the audience at the provider to ours (our entity id). Keep an old entity id of yours "
        "(saml.entity_id) only if no other service has it.",
        "confirmation": "Configure the provider to send a bearer SubjectConfirmation with NotOnOrAfter.",
        "conditions": "Configure the provider to send Conditions with NotOnOrAfter, and no unknown conditions.",
        "not_yet_valid": _CLOCKS,
        "expired": _CLOCKS,
        "session_expired": "Let the user log in at the provider again; compare the clocks in the detail.",
        "metadata_expired": "Renew the provider's metadata: flask genesys-auth saml refresh {contact_center}",
        "authn_statement": "Configure the provider to send an AuthnStatement with its time and method.",
        "authn_context": "Configure the provider to authenticate as authn_context and force_authn require.",
        "name_id": "Configure the provider to send a persistent NameID, or set match to an attribute.",
        "attribute": "Configure the provider to send the attribute in match, with one value.",
        "email_domain": "Add the domain to email_domains, if this provider may assert addresses in it.",
        "replayed": "Nothing: the browser sent the form twice. Let the user log in again.",
        "code": "Let the user log in again: the page was opened twice, or too late.",
        "other_browser": "Let the user log in again in one browser, with cookies; browsers block them in a frame of "
        "another site. Open the application at the host of public_url.",
        "account": "Link the account: flask genesys-auth accounts link {contact_center} USER_NAME {provider}=VALUE "
        "(the value is in the detail); or add one: flask genesys-auth accounts add {contact_center} USER_NAME "
        "--identity {provider}=VALUE; or enable it; see link_by and provision.",
        "logged_out": "Nothing: the provider logged the user out during this login. Let the user log in again.",
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
    """Return the advice for a step that did not succeed.

    :param identity: the proven identity that has no account; the advice then holds the command to type.
    :param step: the step's name.
    :param own_store: whether the application has its own account store, to which no command writes.
    """
    if reason is Reason.NO_ACCOUNT and identity is not None:
        return _own_store_advice(identity) if own_store else _account_commands(identity)
    code = str(reason)
    found = BY_STEP.get((code, step), STEP_ADVICE[code])
    elsewhere = reason is Reason.BAD_CREDENTIALS or (code, step) in BY_STEP
    if own_store and (step == _WEB_SERVICES or not elsewhere):
        found = FOREIGN_ADVICE.get(code, found)
    return found.format(contact_center=contact_center or "CONTACT_CENTER")


def for_fault(fault: str, contact_center: str, provider: str, *, own_store: bool = False) -> str:
    """Return the advice for a refused SAML message; nothing for a code of another release.

    :param own_store: see :func:`for_reason`.
    """
    if own_store and fault == "account":
        return "Add, link or enable the account in the application's own account store (the value is in the detail)."
    return SAML_ADVICE.get(fault, "").format(contact_center=contact_center, provider=provider or "PROVIDER")


def _account_commands(identity: Identity) -> str:
    center, value = shlex.quote(identity.contact_center), identity.subject
    if identity.matched_by == "identity":
        linked = shlex.quote(f"{identity.provider}={value}")
        return (
            f"Link the account: flask genesys-auth accounts link {center} USER_NAME {linked}; or add one: "
            f"flask genesys-auth accounts add {center} USER_NAME --identity {linked}"
        )
    if identity.matched_by == "account_id":
        return _ACCOUNT_DELETED
    return f"Add the account: flask genesys-auth accounts add {center} {shlex.quote(value)}"


def _own_store_advice(identity: Identity) -> str:
    store = "the application's own account store"
    if identity.matched_by == "identity":
        return f"Link an account of {identity.contact_center} to {identity.provider}={identity.subject} in {store}."
    if identity.matched_by == "account_id":
        return _ACCOUNT_DELETED
    kind = "e-mail address" if identity.matched_by == "email" else "user name"
    return f"Add an account of {identity.contact_center} with the {kind} {identity.subject} to {store}."
