"""Collects all that is wrong with a configuration, each with its dotted path, before anything is raised."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from ..errors import ConfigurationError

_SHOWN = 80


def shown(value: str) -> str:
    """Return a name from the configuration as it may stand in a message: quoted, printable and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def dotted(path: str, key: object) -> str:
    """Return the path of a key below another."""
    if not isinstance(key, str):
        text = f"<{type(key).__name__}>"
    else:
        text = key if key.isprintable() and len(key) <= _SHOWN else shown(key)
    return f"{path}.{text}" if path else text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean ...?"`` where something known is near, else nothing."""
    found = difflib.get_close_matches(name[:_SHOWN].lower(), list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


class Problems:
    """What is wrong, in the order in which it was found."""

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
