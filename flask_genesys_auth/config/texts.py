"""The English texts of the pages, by name, and the validation of translations."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from types import MappingProxyType

from marshmallow import ValidationError

ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        # buttons and links
        "continue": "Continue",
        "sign_in": "Sign in",
        "sign_in_again": "Sign in again",
        "sign_out": "Sign out",
        "start_page": "Go to the start page",
        # the last line of a refusal
        "status": "Status {status}",
        "reference": "Reference {reference}",
        # refusals
        "access_denied_title": "Access denied",
        "access_denied_advice": "You do not have access to this page.",
        "authentication_required_title": "Please sign in",
        "authentication_required_advice": "You have to sign in to see this page.",
        "role_required_title": "No permission",
        "role_required_advice": "Your account does not have the role that this page requires.",
        "foreign_origin_title": "Forbidden",
        "foreign_origin_advice": "This request came from another site. Go back to the page and try again.",
        "unavailable_title": "Temporarily unavailable",
        "unavailable_advice": "Sign-in is not available right now. Your password may be right. Try again shortly.",
        "throttled_title": "Too many attempts",
        "throttled_advice": "There have been too many attempts to sign in. Please wait a little before you try again.",
        # SAML
        "saml_failed_title": "Signing in did not work",
        "saml_failed_advice": "The answer of the identity provider could not be accepted. Please try again.",
        "saml_logout_failed_title": "Signing out could not be completed",
        "saml_logout_failed_advice": (
            "The message of the identity provider could not be accepted. You may still be signed in: "
            "sign out in each application, or close the browser."
        ),
        "choose_title": "Sign in",
        "choose_advice": "Choose where your account is.",
        "signing_in_title": "Signing in",
        "signing_out_title": "Signing out",
        "post_advice": "If nothing happens, press the button.",
        "continue_title": "Continue as {name}?",
        "continue_advice": "{provider} has signed you in as {name}. If that is not you, close this page.",
        "logout_title": "Sign out?",
        "logout_advice": "You are signed in as {name}.",
        # after a logout, or the end of a login session
        "signed_out_here_title": "You are signed out",
        "signed_out_here_advice": (
            "Your session here has ended. If you share this computer, close the browser as well."
        ),
        "signed_out_nobody_title": "You are not signed in",
        "signed_out_nobody_advice": "This browser has no session here.",
        "signed_out_local_title": "You are signed out of this application",
        "signed_out_local_advice": (
            "Only this application has signed you out. Your identity provider and other applications may still have "
            "you signed in. If you share this computer, close the browser as well."
        ),
        "signed_out_asked_title": "You are signed out of this application",
        "signed_out_asked_advice": (
            "Your identity provider has not confirmed yet that it has signed you out. If you share this computer, "
            "close the browser as well."
        ),
        "signed_out_complete_title": "You are signed out",
        "signed_out_complete_advice": (
            "Your session here has ended, and your identity provider has confirmed that it has signed you out."
        ),
        "signed_out_partial_title": "You are signed out of this application",
        "signed_out_partial_advice": (
            "Your identity provider has signed you out, but some applications may still be signed in. If you share "
            "this computer, close the browser as well."
        ),
        "signed_out_failed_title": "You are signed out of this application",
        "signed_out_failed_advice": (
            "Your identity provider did not confirm that it has signed you out. Close the browser to be sure."
        ),
    }
)
"""The texts by name; a name in braces is replaced by its value when a page is rendered."""

ENGLISH_TAG = "en"
_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)


def placeholders(text: str) -> frozenset[str]:
    """Return the names in braces in a text.

    :raises ValidationError: if the braces do not match, or hold anything but a plain name.
    """
    try:
        parts = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValidationError("has a brace without its counterpart: write {{ or }} for a literal brace") from error
    if not all(name and name.isidentifier() and not form and not conversion for name, form, conversion in parts):
        raise ValidationError("must have only plain names in braces, such as {name}")
    return frozenset(str(name) for name, _, _ in parts)


def translation(name: str, text: str) -> str:
    """Return a valid replacement of the English text of this name.

    :raises ValidationError: if it has other names in braces than the English text.
    """
    wanted = placeholders(ENGLISH[name])
    if placeholders(text) != wanted:
        listed = " and ".join(f"{{{one}}}" for one in sorted(wanted)) or "no names in braces"
        raise ValidationError(f"must have {listed}, as the English text has")
    return text


def language_tag(text: str) -> str:
    """Return a language tag (RFC 5646) in its usual case, such as ``de-CH``; underscores count as hyphens.

    :raises ValidationError: if it is not a language tag.
    """
    tag = text.replace("_", "-")
    if len(tag) > 35 or not _TAG.fullmatch(tag):
        raise ValidationError('must be a language tag such as "de" or "de-CH"')
    first, *rest = tag.split("-")
    return "-".join([first.lower(), *(part.upper() if len(part) == 2 else part for part in rest)])
