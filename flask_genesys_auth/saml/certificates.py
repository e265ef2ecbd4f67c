"""What we read of X.509 certificates ourselves: their bytes, their name for people, and when they end."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime, timezone

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII)
_RSA = bytes.fromhex("06092a864886f70d010101")
"""The object identifier rsaEncryption (RFC 8017 A.1) in DER."""
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def der_of(pem: str) -> bytes:
    """Return the first certificate of a PEM text (RFC 7468 5) in DER; what else the text holds stays behind.

    :raises ValueError: if there is none.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM")
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError("no certificate in PEM") from error


def pem_of(der: bytes) -> str:
    """Return a certificate in PEM."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def fingerprint(der: bytes) -> str:
    """Return what people tell certificates apart by: SHA-256 of the DER form, in pairs of hexadecimal digits."""
    return hashlib.sha256(der).digest().hex(":").upper()


def public_key_info(der: bytes) -> bytes:
    """Return a certificate's SubjectPublicKeyInfo (RFC 5280 4.1.2.7) in DER.

    :raises ValueError: if it cannot be read.
    """
    try:
        fields = _elements(_content(_content(der, _SEQUENCE), _SEQUENCE))
        # version (absent in the first one), serialNumber, signature, issuer, validity, subject
        tag, content = fields[6 if fields[0][0] == _VERSION else 5]
    except IndexError as error:
        raise ValueError("cut off") from error
    size = len(content)
    octets = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets) if octets else size]) + octets + content


def rsa_bits(der: bytes) -> int | None:
    """Return the size of a certificate's RSA key (RFC 8017 A.1.1) in bits, or ``None``: it is no such key."""
    try:
        algorithm, (_, key) = _elements(_content(public_key_info(der), _SEQUENCE))
        if _RSA not in algorithm[1]:
            return None
        # A BIT STRING begins with the number of bits that are not used.
        return int.from_bytes(_elements(_content(key[1:], _SEQUENCE))[0][1], "big").bit_length()
    except (ValueError, IndexError):
        return None


def not_after(der: bytes) -> float | None:
    """Return the unix time at which a certificate ends (RFC 5280 4.1.2.5), or ``None`` where it cannot be read."""
    try:
        return _read_end(der)
    except (ValueError, IndexError):
        return None


def _read_end(der: bytes) -> float:
    certificate = _content(der, _SEQUENCE)
    fields = _elements(_content(certificate, _SEQUENCE))
    # version (absent in the first one), serialNumber, signature, issuer, validity
    place = 4 if fields[0][0] == _VERSION else 3
    tag, text = _elements(fields[place][1])[1]
    written = text.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: years of two digits are from 1950 to 2049.
        written = ("19" if written[:2] >= "50" else "20") + written
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()


def _content(data: bytes, expected: int) -> bytes:
    tag, content = _elements(data)[0]
    if tag != expected:
        raise ValueError("another element of DER")
    return content


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements that stand side by side (X.690 8.1), each as its tag and content."""
    found, place = [], 0
    while place < len(data):
        tag, size, start = data[place], data[place + 1], place + 2
        if size >= 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[start : start + octets], "big")
            start += octets
        place = start + size
        if place > len(data):
            raise ValueError("cut off")
        found.append((tag, data[start:place]))
    return found
