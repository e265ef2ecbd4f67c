"""Secrets: text, ``{file = "path"}`` or ``{env = "NAME"}``, read once at ``init_app`` and never shown."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
        raise TypeError("a Secret is not to be pickled")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a file or a secret cannot be read; it quotes nothing of the content."""

    finding: str


def read_file(path: Path) -> bytes | Unreadable:
    """Return the content of a file (at most 10 MiB)."""
    try:
        if not path.exists():
            return Unreadable(f"there is no file {path}")
        if not path.is_file():
            return Unreadable(f"{path} is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        return Unreadable(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}")
    if len(content) > MAX_FILE:
        return Unreadable(f"{path} is larger than {MAX_FILE} bytes")
    return content


@dataclass(frozen=True, slots=True)
class SecretSource:
    """The place of a secret, as configured.

    :param value: the secret itself, a path, or the name of an environment variable.
    """

    kind: Literal["text", "file", "env"]
    value: str = field(repr=False)

    def read(self, base_path: Path) -> Secret | Unreadable:
        """Return the secret, without the line end at the end of a file.

        :param base_path: the folder that a relative path is relative to.
        """
        if self.kind == "text":
            return _of_text(self.value, "the secret")
        if self.kind == "env":
            found = os.environ.get(self.value)
            if found is None:
                return Unreadable(f"the environment variable {self.value} is not set")
            return _of_text(found, f"the environment variable {self.value}")
        path = base_path / self.value
        content = read_file(path)
        if isinstance(content, Unreadable):
            return content
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return Unreadable(f"{path} is not UTF-8 text")
        return _of_text(text.removesuffix("\n").removesuffix("\r"), str(path))


def _of_text(text: str, what: str) -> Secret | Unreadable:
    if not text.strip():
        return Unreadable(f"{what} is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return Unreadable(f"{what} is not text in UTF-8")
    return Secret(text)
