"""Errors of SAML messages. The reason goes to the log; the client never sees it."""

from __future__ import annotations

from enum import Enum

from ..errors import BackendUnavailable, GenesysAuthError

_LONGEST_DETAIL = 500


class Fault(str, Enum):
    """Why a message was refused: a closed list of codes for the log."""

    # the gate: before anything is verified
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    FORBIDDEN_XML = "forbidden_xml"
    STRUCTURE = "structure"
    DUPLICATE_ID = "duplicate_id"
    ENCRYPTED = "encrypted"
    SIGNATURE_FORM = "signature_form"
    ALGORITHM = "algorithm"
    STATUS = "status"
    # the signature
    NOT_SIGNED = "not_signed"
    BAD_SIGNATURE = "bad_signature"
    SCHEMA = "schema"
    DECRYPTION = "decryption"
    CROSS_CHECK = "cross_check"
    # the binding to us, to the request and to this moment
    UNSOLICITED = "unsolicited"
    IN_RESPONSE_TO = "in_response_to"
    RELAY_STATE = "relay_state"
    ISSUER = "issuer"
    OTHER_CONTACT_CENTER = "other_contact_center"
    DESTINATION = "destination"
    RECIPIENT = "recipient"
    AUDIENCE = "audience"
    CONFIRMATION = "confirmation"
    CONDITIONS = "conditions"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    SESSION_EXPIRED = "session_expired"
    METADATA_EXPIRED = "metadata_expired"
    AUTHN_STATEMENT = "authn_statement"
    AUTHN_CONTEXT = "authn_context"
    NAME_ID = "name_id"
    ATTRIBUTE = "attribute"
    EMAIL_DOMAIN = "email_domain"
    REPLAYED = "replayed"
    # completing the login in the browser that began it
    CODE = "code"
    OTHER_BROWSER = "other_browser"
    ACCOUNT = "account"
    LOGGED_OUT = "logged_out"

    def __str__(self) -> str:
        return self.value


def printable(text: str) -> str:
    """Return untrusted text for a log line: at most 500 characters, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_DETAIL])


class SamlError(GenesysAuthError):
    """A SAML message was refused.

    :param reason: the code, for the log.
    :param detail: one sentence for the operator, with the found and the expected value.
    :param provider: name of the identity provider that the message was checked against, or empty.
    :ivar asked: whether the message answers a login that began here.
    """

    asked = False

    def __init__(self, reason: Fault, detail: str, *, provider: str = "") -> None:
        self.reason = reason
        self.detail = printable(detail)
        self.provider = provider
        super().__init__(f"{reason}: {self.detail}")


class StatusRefused(SamlError):
    """The response has a status other than Success. It may be unsigned.

    :param codes: the status codes, the outer one first (saml-core 3.2.2.2).
    :param in_response_to: the request that the response claims to answer.
    """

    def __init__(self, detail: str, codes: tuple[str, ...], in_response_to: str) -> None:
        super().__init__(Fault.STATUS, detail)
        self.codes = codes
        self.in_response_to = in_response_to


class MetadataUnavailable(BackendUnavailable):
    """The metadata of an identity provider were never fetched, so that logins with it fail."""
