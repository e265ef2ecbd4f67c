"""The order of the steps: the flow's, not configurable; extra steps stand where they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .protocols import Step

ORDER = ("salesforce", "configuration_server", "web_services", "login_session", "saml")
"""The Web Services authentication flow; ``login_session`` resumes what ``saml`` or a login form has begun."""

_DEFAULT_PLACE = "login_session"


def in_order(own: Iterable[Step], extra: Sequence[Step]) -> tuple[Step, ...]:
    """Return all steps in the order in which the chain asks them.

    :param own: one for each name of :data:`ORDER`.
    :param extra: each stands before ``login_session``, or before the step that its ``before`` names; those for one
        place keep their order.
    :raises ConfigurationError: if a name is used twice or ``before`` names no step.
    """
    steps = sorted(own, key=lambda step: ORDER.index(step.name))
    for step in extra:
        names = [present.name for present in steps]
        place = getattr(step, "before", None) or _DEFAULT_PLACE
        if not isinstance(getattr(step, "name", None), str) or not step.name or step.name in names:
            raise ConfigurationError(
                f"extra_steps: {type(step).__qualname__} needs a name of its own, other than {', '.join(names)}"
            )
        if place not in names:
            raise ConfigurationError(
                f"extra_steps: {step.name} wants to stand before {place!r}, which is none of {', '.join(names)}"
            )
        steps.insert(names.index(place), step)
    return tuple(steps)
