"""What the parts say of their own health, each finding with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    :param name: dotted, such as ``saml.acme.okta.metadata``.
    :param status: ``"warning"`` where everything works but somebody should look at it.
    :param finding: what was found; holds no secret.
    :param advice: what to do, or empty where all is well.
    """

    name: str
    status: Literal["ok", "warning", "failure"]
    finding: str
    advice: str = ""
