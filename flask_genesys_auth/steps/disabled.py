"""Stands in the chain for a step that a contact center has not enabled, so that the walk shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chain.decision import NotApplicable, Reason
from ..chain.inert import InertStep

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from ..chain.contact_centers import ContactCenter
    from ..chain.ports import Challenge


class DisabledStep(InertStep):
    """A step that is switched off here.

    :param name: whose place it takes.
    """

    always = NotApplicable(Reason.DISABLED)

    def __init__(self, name: str) -> None:
        self.name = name

    def challenge(self, request: Request, contact_center: ContactCenter) -> Challenge | None:
        """Offer nothing."""
        return None
