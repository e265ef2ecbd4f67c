"""What is checked of many tables alike: keys that must be there, secrets, certificates, plain http."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from . import addresses
from .problems import Problems
from .proxies import proxy_of
from .secrets import Secret, SecretSource, Unreadable, read_file
from .values import NamedFile

_REQUIRED = "is required"
_PLAIN_HTTP = "is plain http and could leave the machine: use https, or set allow_http = true beside it"
_CERTIFICATE = re.compile(r"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*", re.ASCII)
_AUTHORITY = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)
_SEQUENCE = b"\x30"


class Checks:
    """Finds what is wrong with single keys of a table; what it reads, it puts into the table.

    :param problems: where the findings go.
    :param base_path: the folder that relative paths are relative to.
    :ivar files: those that were read.
    """

    def __init__(self, problems: Problems, base_path: Path) -> None:
        self.problems = problems
        self.files: list[NamedFile] = []
        self._base_path = base_path

    def required(self, path: str, table: dict[str, Any], key: str, finding: str = _REQUIRED) -> None:
        """Find a key that is missing or empty."""
        if not table.get(key) and not self.problems.at(f"{path}.{key}"):
            self.problems.add(f"{path}.{key}", finding)

    def http(self, path: str, url: str, allowed: bool, *, leaves: bool = False) -> None:
        """Find an address on plain http that could leave the machine.

        :param leaves: whatever it names, it does: a proxy has a loopback of its own.
        """
        if not allowed and (addresses.plain_http(url) or (leaves and url.startswith("http://"))):
            self.problems.add(path, _PLAIN_HTTP)

    def file(self, path: str, name: str) -> Path:
        """Return the absolute path of a file, which must be readable."""
        file = self._base_path / name
        content = read_file(file)
        if isinstance(content, Unreadable):
            self.problems.add(path, content.finding)
        self.files.append(NamedFile(path, file, secret=False))
        return file

    def authorities(self, path: str, table: dict[str, Any], key: str) -> None:
        """Read a file with certificates of authorities in PEM form (RFC 7468 5); what it holds takes its place.

        It is read now, for later the process may no longer be allowed to.
        """
        if not isinstance(table.get(key), str):
            return
        file = self._base_path / table[key]
        content = read_file(file)
        if isinstance(content, Unreadable):
            self.problems.add(f"{path}.{key}", content.finding)
            return
        text = "\n".join(block.decode("ascii") for block in _AUTHORITY.findall(content))
        if not _are_certificates(text):
            self.problems.add(f"{path}.{key}", f"must name a file of certificates in PEM form, which {file} is not")
        self.files.append(NamedFile(f"{path}.{key}", file, secret=False))
        table[key] = text

    def proxy(self, path: str, table: dict[str, Any], key: str) -> None:
        """Read the address of a proxy, which may hold a password."""
        found = self.secret(path, table, key)
        if found is None:
            return
        try:
            table[key] = proxy_of(found.reveal())
        except ValidationError as error:
            self.problems.add_messages(error.messages, f"{path}.{key}")

    def secret(self, path: str, table: dict[str, Any], key: str, *, public: bool = False) -> Secret | None:
        """Read a secret; return it, or ``None`` where there is none or it cannot be read.

        :param public: it stands where secrets stand, but is none.
        """
        source = table.get(key)
        if not isinstance(source, SecretSource):
            return None
        found = source.read(self._base_path)
        if isinstance(found, Unreadable):
            self.problems.add(f"{path}.{key}", found.finding)
            return None
        if source.kind == "file":
            self.files.append(NamedFile(f"{path}.{key}", self._base_path / source.value, secret=not public))
        table[key] = found
        return found

    def private_key(self, path: str, table: dict[str, Any], key: str) -> None:
        """Read a private key in PEM form."""
        found = self.secret(path, table, key)
        if found and ("PRIVATE KEY-----" not in found.reveal() or "ENCRYPTED" in found.reveal()):
            self.problems.add(f"{path}.{key}", "must be a private key in PEM form, without a passphrase")

    def certificate(self, path: str, table: dict[str, Any], key: str) -> None:
        """Read one certificate in PEM form (RFC 7468 5); it is public, so it becomes plain text.

        Metadata publish it: a private key in its place, or behind it, must not slip through.
        """
        found = self.secret(path, table, key, public=True)
        if found is None:
            return
        if not _is_certificate(found.reveal()):
            self.problems.add(f"{path}.{key}", "must be a certificate in PEM form and nothing else")
        table[key] = found.reveal()


def _are_certificates(text: str) -> bool:
    if not text:
        # For OpenSSL's callers that is the system's authorities.
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return False
    return True


def _is_certificate(text: str) -> bool:
    block = _CERTIFICATE.fullmatch(text)
    if block is None:
        return False
    try:
        return base64.b64decode("".join(block[1].split()), validate=True).startswith(_SEQUENCE)
    except binascii.Error:
        return False
