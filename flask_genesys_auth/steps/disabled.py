"""Stands in the chain for a step that a contact center has not enabled, so that the walk shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chain.decision import NotApplicable, Outcome, Reason

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..chain.contact_centers import ContactCenter
    from ..chain.evidence import Evidence
    from ..chain.ports import Challenge


class DisabledStep:
    """A step that is switched off here.

    :param name: whose place it takes.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> Outcome:
        """Hand over."""
        return NotApplicable(Reason.DISABLED)

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer nothing."""
        return None
