"""Reads what single keys of a table name (secrets, files, addresses), and collects every problem with its path."""

from __future__ import annotations

import dataclasses
import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from ..errors import ConfigurationError
from .addresses import plain_http, proxy_of
from .fields import default_of, table_at
from .secrets import Secret, SecretSource, Unreadable, read_file
from .settings import NamedFile

_SHOWN = 80
_PLAIN_HTTP = "is plain http and could leave the machine: use https, or set allow_http = true beside it"
_PROXIED_HTTP = "is plain http, and proxy is for https only: use https, or remove proxy beside it"
_AUTHORITY = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)


def shown(value: str) -> str:
    """Return a name from the configuration as a message may carry it: quoted, printable and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def dotted(path: str, key: object) -> str:
    """Return the path of a key below another."""
    if not isinstance(key, str):
        text = f"<{type(key).__name__}>"
    else:
        text = key if key.isprintable() and len(key) <= _SHOWN else shown(key)
    return f"{path}.{text}" if path else text


class Problems:
    """Everything that is wrong with a configuration, in the order in which it was found."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, path: str, *findings: str) -> None:
        """Note what is wrong at a path."""
        self._found.setdefault(path, []).extend(findings)

    def add_messages(self, messages: object, path: str = "") -> None:
        """Note marshmallow's messages: dictionaries of dictionaries, with lists of sentences as leaves."""
        if isinstance(messages, Mapping):
            for key, below in messages.items():
                self.add_messages(below, path if key == "_schema" else dotted(path, key))
        elif isinstance(messages, list):
            for message in messages:
                self.add_messages(message, path)
        else:
            self.add(path, str(messages))

    def at(self, path: str) -> bool:
        """Tell whether something is wrong at or below a path."""
        return any(found == path or found.startswith(f"{path}.") for found in self._found)

    def check(self) -> None:
        """Raise if anything is wrong.

        :raises ConfigurationError: with every problem.
        """
        if self._found:
            sentences = [
                f"{path or 'GENESYS_AUTH'}: {finding}" for path, findings in self._found.items() for finding in findings
            ]
            raise ConfigurationError(*sentences)


class TableReader:
    """One table while it is checked; what it reads replaces the name of it in the table's values.

    :param declared: the dataclass that declares the keys.
    :param values: the given values as the schema returned them, without those that it refused.
    :param path: the dotted path of the table; empty for the whole configuration.
    :param base_path: the folder that relative paths are relative to.
    :param files: the files that were read.
    """

    def __init__(
        self,
        declared: type,
        values: dict[str, Any],
        problems: Problems,
        *,
        base_path: Path,
        path: str = "",
        files: list[NamedFile] | None = None,
    ) -> None:
        self.values = values
        self.path = path
        self.problems = problems
        self.base_path = base_path
        self.files: list[NamedFile] = [] if files is None else files
        self._declared = declared

    def section(self, key: str) -> TableReader:
        """Return the table below a key; an absent one is an empty table from now on."""
        return self._below(key, self.values.setdefault(key, {}), dotted(self.path, key))

    def sections(self, key: str) -> Iterator[tuple[str, TableReader]]:
        """Yield the names (or places) of the tables below a key, and the tables."""
        path = dotted(self.path, key)
        found = self.values.get(key, {})
        for name, values in found.items() if isinstance(found, Mapping) else enumerate(found):
            yield str(name), self._below(key, values, dotted(path, str(name)))

    def _below(self, key: str, values: dict[str, Any], path: str) -> TableReader:
        declared = table_at(self._declared, key)
        return TableReader(declared, values, self.problems, base_path=self.base_path, path=path, files=self.files)

    def get(self, key: str) -> Any:
        """Return the value of a key, or its default; ``None`` for a required key that is absent."""
        if key in self.values:
            return self.values[key]
        default = default_of(self._declared, key)
        return None if default is dataclasses.MISSING else default

    def add(self, key: str, finding: str) -> None:
        """Note what is wrong with a key, or with the whole table if the key is empty."""
        self.problems.add(self._path_of(key), finding)

    def wrong(self, key: str = "") -> bool:
        """Tell whether something is wrong with a key, or anywhere in the table."""
        return self.problems.at(self._path_of(key))

    def require(self, key: str, finding: str = "is required") -> None:
        """Find a key that is absent or empty."""
        if not self.values.get(key) and not self.wrong(key):
            self.add(key, finding)

    def require_https(self, key: str, url: str, *, proxied: bool = False) -> None:
        """Find a URL on plain http that could leave the machine, unless ``allow_http`` stands beside it.

        :param proxied: the table names a proxy, which is used for https only.
        """
        if proxied and url.startswith("http://"):
            self.add(key, _PROXIED_HTTP)
        elif not self.get("allow_http") and plain_http(url):
            self.add(key, _PLAIN_HTTP)

    def read_metadata_file(self, key: str) -> None:
        """Replace the name of a file by its absolute path; the file must be readable."""
        file = self.base_path / self.values[key]
        content = read_file(file)
        if isinstance(content, Unreadable):
            self.add(key, content.finding)
        self._note(key, file)
        self.values[key] = file

    def read_authorities(self, key: str) -> None:
        """Replace the name of a file by the certificates in it, in PEM form (RFC 7468 5).

        They are read now, because later the process may not be allowed to.
        """
        if key not in self.values:
            return
        file = self.base_path / self.values[key]
        content = read_file(file)
        if isinstance(content, Unreadable):
            self.add(key, content.finding)
            return
        text = "\n".join(block.decode("ascii") for block in _AUTHORITY.findall(content))
        if not _are_certificates(text):
            self.add(key, f"must name a file of certificates in PEM form, which {file} is not")
        self._note(key, file)
        self.values[key] = text

    def read_proxy(self, key: str) -> None:
        """Read the URL of a proxy, which may hold a password."""
        found = self.read_secret(key)
        if found is None:
            return
        try:
            self.values[key] = proxy_of(found.reveal())
        except ValidationError as error:
            self.problems.add_messages(error.messages, dotted(self.path, key))

    def read_secret(self, key: str, *, public: bool = False) -> Secret | None:
        """Read a secret; return it, or ``None`` if it is absent or cannot be read.

        :param public: the value is given like a secret, but is not one.
        """
        source = self.values.get(key)
        if not isinstance(source, SecretSource):
            return None
        found = source.read(self.base_path)
        if isinstance(found, Unreadable):
            self.add(key, found.finding)
            return None
        if source.kind == "file":
            self._note(key, self.base_path / source.value, secret=not public)
        self.values[key] = found
        return found

    def read_private_key(self, key: str) -> None:
        """Read a private key in PEM form."""
        found = self.read_secret(key)
        if found and ("PRIVATE KEY-----" not in found.reveal() or "ENCRYPTED" in found.reveal()):
            self.add(key, "must be a private key in PEM form, without a passphrase")

    def read_certificate(self, key: str) -> None:
        """Read one certificate in PEM form (RFC 7468 5); it is public, so it becomes plain text.

        Our metadata publish it: a private key must not be accepted in its place, or behind it.
        """
        found = self.read_secret(key, public=True)
        if found is None:
            return
        if not _is_certificate(found.reveal()):
            self.add(key, "must be a certificate in PEM form and nothing else")
        self.values[key] = found.reveal()

    def _path_of(self, key: str) -> str:
        return dotted(self.path, key) if key else self.path

    def _note(self, key: str, file: Path, *, secret: bool = False) -> None:
        self.files.append(NamedFile(dotted(self.path, key), file, secret=secret))


def _are_certificates(text: str) -> bool:
    if not text:
        # An empty text means the system's authorities to OpenSSL.
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return False
    return True


def _is_certificate(text: str) -> bool:
    """Tell whether a text is one certificate in PEM, and nothing else but white space."""
    # Imported here: only SAML has certificates of its own.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        pem = x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.PEM).decode()
    except ValueError:
        return False
    return "".join(text.split()) == "".join(pem.split())
