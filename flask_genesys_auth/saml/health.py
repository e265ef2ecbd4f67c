"""Checks of SAML: metadata, certificates, relaxed settings, and the providers' clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ..checks import Check, clock_check
from ..upstream import Answer, Upstream, probe
from .documents import as_instant
from .errors import MetadataUnavailable
from .keys import der_of, fingerprint, not_after, rsa_bits
from .metadata import LIMITS
from .sources import FETCH_TIMEOUT, is_remote_http

if TYPE_CHECKING:
    from .keys import OwnKeys
    from .trust import TrustedProvider

SOON = 30 * 24 * 3600.0
"""Seconds before a certificate expires at which the warning starts."""

LEAST_BITS = 2048
"""Of an RSA key (NIST SP 800-131A)."""

_DAY = 24 * 3600.0
_RELAXATIONS = {
    "allow_sha1": (
        "signatures with SHA-1 are accepted",
        "configure the provider to sign with SHA-256, then remove allow_sha1",
    ),
    "allow_cbc": ("AES-CBC is decrypted", "configure the provider to encrypt with AES-GCM, then remove allow_cbc"),
    "allow_rsa15": (
        "RSA 1.5 key transport is decrypted",
        "configure the provider to use RSA-OAEP, then remove allow_rsa15",
    ),
    "allow_unsolicited": (
        "responses without a request are accepted",
        "begin logins at this application, then remove allow_unsolicited",
    ),
}


def provider_checks(provider: TrustedProvider, now: float, *, ask: bool = True) -> Iterator[Check]:
    """Yield the checks of one identity provider.

    :param now: unix time.
    :param ask: whether metadata that were never fetched may be fetched now.
    """
    name = f"saml.{provider.contact_center}.{provider.settings.name}"
    if ask or provider.source.is_local or provider.held_since() is not None:
        yield _metadata_check(provider, f"{name}.metadata", now)
    else:
        yield Check(f"{name}.metadata", "ok", f"not fetched yet from {provider.source.where}")
    if provider.held_since() is not None:
        trust = provider.current()
        yield from _certificate_checks(
            trust.metadata.certificates,
            f"{name}.certificate",
            now,
            "check that the provider's metadata contain the next one",
        )
        if trust.metadata.wants_signed_requests and not trust.toolkit.get_security_data()["authnRequestsSigned"]:
            yield Check(
                f"{name}.signed_requests",
                "warning",
                "the provider requires signed requests (WantAuthnRequestsSigned), and signing_key is not set",
                f"generate a key: {_keygen('signing')}, then set signing_key and signing_certificate, and give the "
                "provider our new metadata",
            )
    for relaxation, (finding, advice) in _RELAXATIONS.items():
        if getattr(provider.settings, relaxation):
            yield Check(f"{name}.{relaxation}", "warning", finding, advice)
    if is_remote_http(str(provider.settings.metadata)):
        yield Check(
            f"{name}.allow_http",
            "warning",
            "the metadata are fetched by plain http; only their signature protects them",
            "set metadata to an https URL",
        )


def own_checks(keys: OwnKeys, contact_center: str, public_url: str, now: float) -> Iterator[Check]:
    """Yield the checks of our own keys and addresses.

    :param now: unix time.
    """
    name = f"saml.{contact_center}"
    if keys.signing is None:
        yield Check(
            f"{name}.signing_key",
            "warning",
            "our messages are not signed, and single logout ends sessions here only",
            f"generate a key: {_keygen('signing')}, then set signing_key and signing_certificate",
        )
    else:
        advice = f"generate its successor: {_keygen('next-signing')}, and publish it as next_signing_certificate"
        yield from _certificate_checks((der_of(keys.signing.certificate),), f"{name}.signing_certificate", now, advice)
    advice = f"generate its successor: {_keygen('next-encryption')}, and put it first among encryption_keys"
    yield from _certificate_checks(keys.encryption, f"{name}.encryption_keys", now, advice)
    if is_remote_http(public_url):
        yield Check(f"{name}.public_url", "warning", "logins use plain http", "set public_url to an https URL")


def _metadata_check(provider: TrustedProvider, name: str, now: float) -> Check:
    command = f"flask genesys-auth saml refresh {provider.contact_center} --provider {provider.settings.name}"
    try:
        metadata = provider.current().metadata
    except MetadataUnavailable as error:
        return Check(name, "failure", error.finding, f"check metadata and the network, then: {command}")
    hours = max(0.0, now - (provider.held_since() or now)) / 3600
    finding = f"read {hours:.1f} hours ago from {provider.source.where}"
    if metadata.valid_until is not None:
        if now >= metadata.valid_until:
            ended = f"expired at {as_instant(metadata.valid_until)}: logins fail"
            return Check(name, "failure", ended, f"get new metadata from the provider, then: {command}")
        finding += f", valid until {as_instant(metadata.valid_until)}"
    if provider.failure is not None:
        finding += f"; newer ones cannot be used: {provider.failure.finding}"
        return Check(
            name, "warning", finding, f"the last good ones remain in use; correct the metadata, then: {command}"
        )
    if metadata.valid_until is not None and metadata.valid_until - now < _DAY:
        return Check(name, "warning", finding, "ask the provider for metadata with a later validUntil")
    return Check(name, "ok", finding)


def _certificate_checks(certificates: tuple[bytes, ...], name: str, now: float, advice: str) -> Iterator[Check]:
    for place, certificate in enumerate(certificates, start=1):
        which = f"{name}.{place}" if len(certificates) > 1 else name
        bits = rsa_bits(certificate)
        if bits is not None and bits < LEAST_BITS:
            short = f"{_short(certificate)} has an RSA key of {bits} bits"
            yield Check(f"{which}.bits", "warning", short, f"use at least {LEAST_BITS} bits; {advice}")
        ends = not_after(certificate)
        if ends is None:
            yield Check(which, "ok", f"{_short(certificate)}; its expiry date cannot be read")
            continue
        days = (ends - now) / _DAY
        size = f" (RSA, {bits} bits)" if bits else ""
        finding = f"{_short(certificate)}{size} expires at {as_instant(ends)}, in {days:.0f} days"
        if days <= 0:
            # Only a warning: the metadata, not the certificate, say that the key is valid.
            yield Check(which, "warning", f"{_short(certificate)} expired at {as_instant(ends)}", advice)
        elif ends - now < SOON:
            yield Check(which, "warning", finding, advice)
        else:
            yield Check(which, "ok", finding)


def _keygen(name: str) -> str:
    """Return the command that generates a key."""
    return f"flask genesys-auth saml keygen --out-key {name}.key --out-cert {name}.crt"


def _short(certificate: bytes) -> str:
    return f"{fingerprint(certificate)[:23]}..."


def provider_clock_checks(provider: TrustedProvider, clock: Callable[[], float], clock_skew: float) -> Iterator[Check]:
    """Compare our clock with the ``Date`` header (RFC 9110 6.6.1) of the server of the metadata, if there is one.

    :param clock: our unix time.
    :param clock_skew: seconds of skew that messages may have.
    """
    if provider.source.is_local:
        return
    client = Upstream(connections=1)
    try:
        answer, _, taken = probe(client, "GET", provider.source.where, seconds=FETCH_TIMEOUT, max_body=LIMITS.size)
    finally:
        client.close()
    now = clock() - taken / 2
    theirs = _moment(answer.headers.get("Date", "")) if isinstance(answer, Answer) else None
    if theirs is None:
        return
    whose = f"the identity provider ({provider.settings.name})"
    name = f"saml.{provider.contact_center}.{provider.settings.name}.clock"
    # The header has no fractions of a second.
    yield clock_check(name, whose, theirs + 0.5 - now, allowed=clock_skew)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
