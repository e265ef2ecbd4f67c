"""The words of the pages: in which language, and how they get into a template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import request
from markupsafe import Markup, escape

from ..config.texts import ENGLISH, ENGLISH_TAG

if TYPE_CHECKING:
    from ..config.settings import Settings

ChooseLanguage: TypeAlias = Callable[[], object]
"""Returns the tag of the current request's language, as text or as something that is written so; or ``None``."""


class Texts:
    """The texts of one application.

    :param settings: the languages that pages are in, and the texts that were given for them.
    :param choose: the application's own choice; default: what the browser asks for (``Accept-Language``).
    """

    def __init__(self, settings: Settings, choose: ChooseLanguage | None) -> None:
        self._languages = settings.languages
        self._texts = {tag: {**ENGLISH, **settings.texts.get(tag, {})} for tag in settings.languages}
        self._choose = choose

    def language(self) -> str:
        """Return the tag of the language in which the current request's page is (RFC 5646)."""
        chosen = self._choose() if self._choose is not None else None
        if chosen:
            return self._nearest(str(chosen).replace("_", "-")) or self._languages[0]
        for wanted, quality in request.accept_languages:
            found = self._nearest(wanted) if quality > 0 else ""
            if found:
                return found
        return self._languages[0]

    def text(self, name: str, /, **values: object) -> Markup:
        """Return a text for a page in its language; texts and values are escaped, but for values that are ``Markup``.

        :param values: what is put in where the text has braces.
        :raises KeyError: if there is no text of this name.
        """
        return escape(self._texts[self.language()][name]).format(**values)

    def _nearest(self, wanted: str) -> str:
        """Return the language of this tag, or one that differs only in its region, or nothing (RFC 4647 3.4)."""
        tag = wanted.lower()
        if tag == "*":
            return self._languages[0]
        known = {one.lower(): one for one in self._languages}
        first = tag.partition("-")[0]
        near = (one for one in self._languages if one.lower().partition("-")[0] == first)
        return known.get(tag) or known.get(first) or next(near, "")

    def template_context(self) -> dict[str, Any]:
        """Return what every template of the application may use: ``genesys_text`` and ``genesys_language``."""
        return {"genesys_text": self.text, "genesys_language": self.language}


def untranslated(settings: Settings) -> Iterator[str]:
    """Find languages of which texts are missing; a sentence for each."""
    for tag in settings.languages:
        given: Mapping[str, str] = settings.texts.get(tag, {})
        missing = [name for name in ENGLISH if name not in given]
        if missing and tag.partition("-")[0] != ENGLISH_TAG:
            yield f"texts.{tag}: pages are in English where these are missing: {', '.join(missing)}"
