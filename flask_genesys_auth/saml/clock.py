"""The identity provider's clock beside ours: what it signs is good from a moment to a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ..checks import Check, clock_check
from ..upstream import Answer, Upstream, ask
from .metadata import LIMITS
from .sources import FETCH_TIMEOUT

if TYPE_CHECKING:
    from .trust import TrustedProvider


def provider_clock_checks(provider: TrustedProvider, clock: Callable[[], float], clock_skew: float) -> Iterator[Check]:
    """Ask the server of the metadata what time it is (``Date``, RFC 9110 6.6.1), where they come from an address.

    :param clock: unix time, ours.
    :param clock_skew: seconds that a message may be off; what it allows the clocks must not use up.
    """
    if provider.source.at_hand:
        return
    client = Upstream(connections=1)
    try:
        answer, _, taken = ask(client, "GET", provider.source.where, seconds=FETCH_TIMEOUT, max_body=LIMITS.size)
    finally:
        client.close()
    now = clock() - taken / 2
    theirs = _moment(answer.headers.get("Date", "")) if isinstance(answer, Answer) else None
    if theirs is None:
        return
    whose = f"the identity provider ({provider.settings.name})"
    name = f"saml.{provider.contact_center}.{provider.settings.name}.clock"
    # The header leaves the fraction of its second out.
    yield clock_check(name, whose, theirs + 0.5 - now, allowed=clock_skew)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
