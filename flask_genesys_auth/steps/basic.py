"""The challenge that the two steps with a user name and a password share."""

from __future__ import annotations

from ..chain.protocols import Challenge


def basic_challenge(realm: str) -> Challenge:
    """Return the Basic challenge in UTF-8 (RFC 7617 2 and 2.1).

    :param realm: what the client shows beside the question; control characters, which no quoted-string can hold
        (RFC 9110 5.6.4), and what no header can carry are left out.
    """
    shown = "".join(character for character in realm if " " <= character <= "~")
    quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
    return Challenge(scheme=f'Basic realm="{quoted}", charset="UTF-8"')
