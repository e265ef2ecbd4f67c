"""A request as it is given on a command line: its address and its headers."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import click
from werkzeug.datastructures import Headers

_HOST = re.compile(r"[0-9A-Za-z.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def address(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return an address as it was given, once it is sure that all of it can be read; ``None`` if none was."""
    if text is None:
        return None
    try:
        _check_address(text)
    except UnicodeEncodeError:
        raise click.BadParameter("is not UTF-8", context, parameter) from None
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return text


def _check_address(text: str) -> None:
    """Take an address apart as the request is going to.

    :raises ValueError: if that cannot be done.
    """
    text.encode()
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode()
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no address: {error}") from None
    if not text.startswith("/") and parts.scheme not in {"http", "https"}:
        raise ValueError("must be a path such as /agent, or an address by http or https")
    if (parts.netloc and not _HOST.fullmatch(host)) or (parts.scheme and not host) or "@" in parts.netloc:
        raise ValueError("has no host that a request could name")
    if not text.isprintable():
        raise ValueError("has characters that no address has")


def headers(given: tuple[str, ...]) -> Headers:
    """Read headers from arguments and files; what is wrong with one is told without a piece of its value."""
    found = Headers()
    for place, text in enumerate(given, start=1):
        if text.startswith("@"):
            for number, line in enumerate(_lines_of(text[1:]), start=1):
                if line.strip():
                    _put(found, line, f"{text[1:]}, line {number}")
        else:
            _put(found, text, f"-H number {place}")
    return found


def _lines_of(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: is not UTF-8") from None
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from None


def _put(headers: Headers, line: str, place: str) -> None:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or any(character in value for character in "\r\n\0"):
        raise click.UsageError(f'{place}: is not "Name: value"')
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise click.UsageError(f"{place}: a header carries Latin-1 only") from None
    headers.add(name.strip(), value.strip())
