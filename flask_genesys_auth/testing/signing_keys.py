"""Throw-away RSA keys with self-signed certificates, made on the spot: for tests and development, never for use.

Written in plain Python, so that the sample application needs no library for it and no private key is ever shipped.
"""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone

import xmlsec
from xmlsec import constants

_EXPONENT = 65537
_YEAR = 365 * 24 * 3600
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
_COMMON_NAME = "2.5.4.3"
_SMALL_PRIMES = tuple(n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its certificate, both in PEM."""

    private_pem: str = field(repr=False)
    certificate_pem: str

    @property
    def certificate(self) -> str:
        """The certificate as XML carries it: DER in base64, on one line."""
        return "".join(line for line in self.certificate_pem.splitlines() if not line.startswith("-"))

    def load(self) -> xmlsec.Key:
        """Return the key as libxmlsec wants it."""
        return xmlsec.Key.from_memory(self.private_pem.encode(), constants.KeyDataFormatPem, None)


def generate_signing_key(name: str = "development") -> SigningKey:
    """Make an RSA key of 2048 bits and a certificate for a year; takes about a second.

    :param name: the certificate's common name.
    """
    p, q = _prime(1024), _prime(1024)
    while q == p:
        q = _prime(1024)
    private = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    numbers = (0, p * q, _EXPONENT, private, p, q, private % (p - 1), private % (q - 1), pow(q, -1, p))
    pem = _pem("RSA PRIVATE KEY", _sequence(*(_integer(number) for number in numbers)))
    return SigningKey(pem, _self_signed(name, p * q, pem))


def _prime(bits: int) -> int:
    while True:
        # The two highest bits set: the product of two such primes has twice the bits.
        candidate = secrets.randbits(bits) | (3 << (bits - 2)) | 1
        if candidate % _EXPONENT == 1 or any(candidate % small == 0 for small in _SMALL_PRIMES):
            continue
        if _probably_prime(candidate):
            return candidate


def _probably_prime(number: int, rounds: int = 12) -> bool:
    """Tell whether a number passes the Miller-Rabin test (FIPS 186-5 B.3.1)."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, odd, twos, 2 + secrets.randbelow(number - 4)) for _ in range(rounds))


def _passes(number: int, odd: int, twos: int, base: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def _self_signed(name: str, modulus: int, pem: str) -> str:
    """Return an X.509 certificate (RFC 5280 4.1) in PEM."""
    algorithm = _sequence(_identifier(_SHA256_WITH_RSA), b"\x05\x00")
    issuer = _sequence(_tagged(0x31, _sequence(_identifier(_COMMON_NAME), _tagged(0x0C, name.encode()))))
    now = int(time.time())
    to_be_signed = _sequence(
        _tagged(0xA0, _integer(2)),
        _integer(secrets.randbits(63) | 1),
        algorithm,
        issuer,
        _sequence(_moment(now - 3600), _moment(now + _YEAR)),
        issuer,
        _sequence(
            _sequence(_identifier(_RSA_ENCRYPTION), b"\x05\x00"),
            _tagged(0x03, b"\x00" + _sequence(_integer(modulus), _integer(_EXPONENT))),
        ),
    )
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(pem.encode(), constants.KeyDataFormatPem, None)
    signature = context.sign_binary(to_be_signed, constants.TransformRsaSha256)
    return _pem("CERTIFICATE", _sequence(to_be_signed, algorithm, _tagged(0x03, b"\x00" + signature)))


def _tagged(tag: int, content: bytes) -> bytes:
    """Return a value in DER (X.690 8.1)."""
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _identifier(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytes((first * 40 + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | (number & 0x7F))
        content += bytes(reversed(groups))
    return _tagged(0x06, content)


def _moment(seconds: int) -> bytes:
    return _tagged(0x17, datetime.fromtimestamp(seconds, timezone.utc).strftime("%y%m%d%H%M%SZ").encode())


def _pem(label: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
