"""Brings in what the configuration names as ``"package.module:Class"``."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from werkzeug.utils import import_string

from ..errors import ConfigurationError


def imported(name: str, path: str) -> Callable[..., object]:
    """Return it.

    :param path: the dotted path of the key that names it.
    :raises ConfigurationError: if it cannot be imported.
    """
    try:
        return cast("Callable[..., object]", import_string(name))
    except ImportError as error:
        # Werkzeug's own error is a report of many lines around the one that says what happened.
        said = str(getattr(error, "exception", error)).partition("\n")[0]
        raise ConfigurationError(f"{path}: {name!r} cannot be imported: {said}") from error
