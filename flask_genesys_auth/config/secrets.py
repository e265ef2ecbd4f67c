"""A secret that does not show: text, ``{file = "path"}`` or ``{env = "NAME"}``, read once at ``init_app``."""

from __future__ import annotations

import hmac


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
