"""Checks of SAML: metadata, certificates, every relaxation that is in force, and the providers' clocks."""

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
"""Seconds before its end from which a certificate is warned of."""

LEAST_BITS = 2048
"""Of an RSA key (NIST SP 800-131A): a shorter one is no longer safe."""

_DAY = 24 * 3600.0
_RELAXATIONS = {
    "allow_sha1": ("signatures with SHA-1 are accepted", "let the provider sign with SHA-256, then remove allow_sha1"),
    "allow_cbc": ("AES-CBC is decrypted", "let the provider encrypt with AES-GCM, then remove allow_cbc"),
    "allow_rsa15": ("RSA 1.5 key transport is decrypted", "let the provider use RSA-OAEP, then remove allow_rsa15"),
    "allow_unsolicited": (
        "responses that answer no request are accepted",
        "let people begin at this application, then remove allow_unsolicited",
    ),
}


def provider_checks(provider: TrustedProvider, now: float, *, ask: bool = True) -> Iterator[Check]:
    """Yield what is to be said of one identity provider.

    :param now: unix time.
    :param ask: whether the provider may be asked for what is not known of it yet.
    """
    name = f"saml.{provider.contact_center}.{provider.settings.name}"
    if ask or provider.source.is_local or provider.held_since() is not None:
        yield _metadata_check(provider, f"{name}.metadata", now)
    else:
        yield Check(f"{name}.metadata", "ok", f"not fetched from {provider.source.where}, for nobody is to be asked")
    if provider.held_since() is not None:
        trust = provider.current()
        yield from _certificate_checks(
            trust.metadata.certificates, f"{name}.certificate", now, "its next one comes with its metadata"
        )
        if trust.metadata.wants_signed_requests and not trust.toolkit.get_security_data()["authnRequestsSigned"]:
            yield Check(
                f"{name}.signed_requests",
                "warning",
                "it wants signed requests (WantAuthnRequestsSigned), and there is no signing_key",
                f"make a key: {_keygen('signing')}, then set signing_key and signing_certificate, and give the "
                "provider our metadata anew",
            )
    for relaxation, (finding, advice) in _RELAXATIONS.items():
        if getattr(provider.settings, relaxation):
            yield Check(f"{name}.{relaxation}", "warning", finding, advice)
    if is_remote_http(str(provider.settings.metadata)):
        yield Check(
            f"{name}.allow_http",
            "warning",
            "its metadata come by plain http, only their signature protects them",
            "give metadata an https address",
        )


def own_checks(keys: OwnKeys, contact_center: str, public_url: str, now: float) -> Iterator[Check]:
    """Yield what is to be said of our own side.

    :param now: unix time.
    """
    name = f"saml.{contact_center}"
    if keys.signing is None:
        yield Check(
            f"{name}.signing_key",
            "warning",
            "nothing we send is signed, and single logout ends sessions here only",
            f"make a key: {_keygen('signing')}, then set signing_key and signing_certificate",
        )
    else:
        advice = f"make its successor: {_keygen('next-signing')}, and publish it as next_signing_certificate"
        yield from _certificate_checks((der_of(keys.signing.certificate),), f"{name}.signing_certificate", now, advice)
    advice = f"make its successor: {_keygen('next-encryption')}, and put it first among encryption_keys"
    yield from _certificate_checks(keys.encryption, f"{name}.encryption_keys", now, advice)
    if is_remote_http(public_url):
        yield Check(f"{name}.public_url", "warning", "logins come by plain http", "give public_url an https address")


def _metadata_check(provider: TrustedProvider, name: str, now: float) -> Check:
    command = f"flask genesys-auth saml refresh {provider.contact_center} --provider {provider.settings.name}"
    try:
        metadata = provider.current().metadata
    except MetadataUnavailable as error:
        return Check(name, "failure", error.finding, f"check its address and this server's way to it, then: {command}")
    hours = max(0.0, now - (provider.held_since() or now)) / 3600
    finding = f"read {hours:.1f} hours ago from {provider.source.where}"
    if metadata.valid_until is not None:
        if now >= metadata.valid_until:
            ended = f"expired at {as_instant(metadata.valid_until)}: nobody can log in"
            return Check(name, "failure", ended, f"get new metadata from the provider, then: {command}")
        finding += f", valid until {as_instant(metadata.valid_until)}"
    if provider.failure is not None:
        finding += f"; newer ones cannot be used: {provider.failure.finding}"
        return Check(name, "warning", finding, f"the last good ones stay in force; mend it, then: {command}")
    if metadata.valid_until is not None and metadata.valid_until - now < _DAY:
        return Check(name, "warning", finding, "get metadata that are valid for longer from the provider")
    return Check(name, "ok", finding)


def _certificate_checks(certificates: tuple[bytes, ...], name: str, now: float, advice: str) -> Iterator[Check]:
    for place, certificate in enumerate(certificates, start=1):
        which = f"{name}.{place}" if len(certificates) > 1 else name
        bits = rsa_bits(certificate)
        if bits is not None and bits < LEAST_BITS:
            short = f"{_short(certificate)} has an RSA key of {bits} bits"
            yield Check(f"{which}.bits", "warning", short, f"it needs {LEAST_BITS} at least; {advice}")
        ends = not_after(certificate)
        if ends is None:
            yield Check(which, "ok", f"{_short(certificate)}, whose end cannot be read")
            continue
        days = (ends - now) / _DAY
        size = f" (RSA, {bits} bits)" if bits else ""
        finding = f"{_short(certificate)}{size} ends at {as_instant(ends)}, in {days:.0f} days"
        if days <= 0:
            # Its key stays good: the metadata are what says whose key it is.
            yield Check(which, "warning", f"{_short(certificate)} has ended at {as_instant(ends)}", advice)
        elif ends - now < SOON:
            yield Check(which, "warning", finding, advice)
        else:
            yield Check(which, "ok", finding)


def _keygen(name: str) -> str:
    """Return the command that makes a key, as it is typed."""
    return f"flask genesys-auth saml keygen --out-key {name}.key --out-cert {name}.crt"


def _short(certificate: bytes) -> str:
    return f"{fingerprint(certificate)[:23]}..."


def provider_clock_checks(provider: TrustedProvider, clock: Callable[[], float], clock_skew: float) -> Iterator[Check]:
    """Ask the server of the metadata what time it is (``Date``, RFC 9110 6.6.1), where they come from an address.

    :param clock: unix time, ours.
    :param clock_skew: seconds that a message may be off; what it allows the clocks must not use up.
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
    # The header leaves the fraction of its second out.
    yield clock_check(name, whose, theirs + 0.5 - now, allowed=clock_skew)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
