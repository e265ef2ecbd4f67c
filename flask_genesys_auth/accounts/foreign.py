"""Password hashes of an application's own format, such as Werkzeug's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..events import Event, tell


@dataclass(frozen=True, slots=True)
class ForeignHashes:
    """How hashes of another format than argon2's are verified.

    :param verify: takes a stored hash and a password, such as ``werkzeug.security.check_password_hash``.
    :param dummy: a hash of that format, made with the parameters the application uses: it is verified for unknown
        users and for accounts without a password, so that they take as long as a wrong password.
    """

    verify: Callable[[str, str], bool]
    dummy: str = field(repr=False)

    def check(self, stored: str | None, password: str) -> bool:
        """Tell whether this is the password, by one call of ``verify`` whatever is stored.

        What ``verify`` refuses to read (``ValueError``, ``TypeError``) is no password's hash.
        """
        try:
            same = self.verify(self.dummy if stored is None else stored, password)
        except (ValueError, TypeError):
            tell(
                Event.PASSWORD_HASH_UNREADABLE,
                detail="a stored password hash is not of the application's format: its account cannot log in by it",
            )
            return False
        return bool(same) and stored is not None
