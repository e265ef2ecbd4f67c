"""Secrets: text, ``{file = "path"}`` or ``{env = "NAME"}``, read once at ``init_app`` and never shown."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from marshmallow import ValidationError

MAX_FILE = 10 * 1024 * 1024


class Secret:
    """A value that never shows in ``repr``, ``str``, a format, a pickle or a log.

    :param value: the secret itself.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")


def read_file(path: Path) -> bytes:
    """Return the content of a file (at most 10 MiB).

    :raises ValidationError: if it cannot be read; quotes nothing of the content.
    """
    try:
        if not path.exists():
            raise ValidationError(f"the file {path} does not exist: create it, or correct the path")
        if not path.is_file():
            raise ValidationError(f"{path} is not a file: correct the path")
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise ValidationError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if len(content) > MAX_FILE:
        raise ValidationError(f"{path} is larger than {MAX_FILE} bytes: correct the path")
    return content


@dataclass(frozen=True, slots=True)
class SecretSource:
    """The place of a secret, as configured.

    :param value: the secret itself, a path, or the name of an environment variable.
    """

    kind: Literal["text", "file", "env"]
    value: str = field(repr=False)

    def read(self, base_path: Path) -> Secret:
        """Return the secret, without the line end at the end of a file.

        :param base_path: the folder that a relative path starts from.
        :raises ValidationError: if it cannot be read; quotes nothing of the content.
        """
        if self.kind == "env":
            name = f"the environment variable {self.value}"
            if self.value not in os.environ:
                raise ValidationError(f"{name} is not set: set it")
            return _secret(os.environ[self.value], name)
        if self.kind == "text":
            return _secret(self.value, "the secret")
        path = base_path / self.value
        # Bytes that are not UTF-8 become lone surrogates, which are refused.
        text = read_file(path).decode("utf-8", "surrogateescape")
        return _secret(text.removesuffix("\n").removesuffix("\r"), str(path))


def _secret(text: str, name: str) -> Secret:
    if not text.strip():
        raise ValidationError(f"{name} is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValidationError(f"{name} is not UTF-8 text")
    return Secret(text)
