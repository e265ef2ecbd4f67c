"""Which identity provider a message says it comes from, where no request of ours tells."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import MetadataUnavailable
from .trust import Trust, TrustedProvider


def named(providers: Iterable[TrustedProvider], entity_id: str) -> list[Trust]:
    """Return those that bear this name; whether one has sent the message is for its keys to show.

    Those that are known by this name are asked first, and the others only if there is none: nobody waits for one
    provider's metadata to hear what another has to say.

    :raises MetadataUnavailable: if there is none, but one whose metadata are not there might be it.
    """
    providers = [one for one in providers if one.settings.entity_id in {"", entity_id}]
    known = [one for one in providers if _is(one.held(), entity_id)]
    others = [one for one in providers if one not in known]
    missing = None
    for group in (known, others):
        answers = [_current(one) for one in group]
        found = [answer for answer in answers if isinstance(answer, Trust) and answer.entity_id == entity_id]
        if found:
            return found
        missing = next((answer for answer in answers if isinstance(answer, MetadataUnavailable)), missing)
    if missing is not None:
        raise missing
    return []


def _is(trust: Trust | None, entity_id: str) -> bool:
    return trust is not None and trust.entity_id == entity_id


def _current(provider: TrustedProvider) -> Trust | MetadataUnavailable:
    try:
        return provider.current()
    except MetadataUnavailable as error:
        return error
