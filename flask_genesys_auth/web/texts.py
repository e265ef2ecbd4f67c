"""The texts of the pages in the language of the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import request
from markupsafe import Markup, escape

from ..config.texts import ENGLISH, ENGLISH_TAG

if TYPE_CHECKING:
    from ..config.settings import Settings

ChooseLanguage: TypeAlias = Callable[[], object]
"""Returns the language tag of the current request, as text or an object whose text it is; or ``None``."""


class Texts:
    """The texts of one application.

    :param settings: the languages of the pages, and their texts.
    :param choose: the application's own choice of the language; default: ``Accept-Language``.
    """

    def __init__(self, settings: Settings, choose: ChooseLanguage | None) -> None:
        self._languages = settings.languages
        self._texts = {tag: {**ENGLISH, **settings.texts.get(tag, {})} for tag in settings.languages}
        self._choose = choose

    def language(self) -> str:
        """Return the language tag of the current request's page (RFC 5646)."""
        chosen = self._choose() if self._choose is not None else None
        if chosen:
            return self._nearest(str(chosen).replace("_", "-")) or self._languages[0]
        for wanted, quality in request.accept_languages:
            found = self._nearest(wanted) if quality > 0 else ""
            if found:
                return found
        return self._languages[0]

    def text(self, name: str, /, **values: object) -> Markup:
        """Return a text in the language of the page, with text and values escaped (except ``Markup`` values).

        :param values: replace the names in braces.
        :raises KeyError: if there is no text with this name.
        """
        return escape(self._texts[self.language()][name]).format(**values)

    def _nearest(self, wanted: str) -> str:
        """Return the language with this tag, or one that differs only in the region, or nothing (RFC 4647 3.4)."""
        tag = wanted.lower()
        if tag == "*":
            return self._languages[0]
        known = {one.lower(): one for one in self._languages}
        first = tag.partition("-")[0]
        near = (one for one in self._languages if one.lower().partition("-")[0] == first)
        return known.get(tag) or known.get(first) or next(near, "")

    def template_context(self) -> dict[str, Any]:
        """Return the functions for all templates: ``genesys_text`` and ``genesys_language``."""
        return {"genesys_text": self.text, "genesys_language": self.language}


def untranslated(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each language with missing texts."""
    for tag in settings.languages:
        given: Mapping[str, str] = settings.texts.get(tag, {})
        missing = [name for name in ENGLISH if name not in given]
        if missing and tag.partition("-")[0] != ENGLISH_TAG:
            yield f"texts.{tag}: these texts are missing and shown in English: {', '.join(missing)}"
