"""Makes a screenshot small: a PNG of a palette's colours, for pages have few (PNG specification, 3rd edition)."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

COLOURS = 128
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}


def shrink(png: bytes) -> bytes:
    """Return the same picture in its most frequent colours; every other one becomes the nearest of them.

    :param png: 8 bits a channel, RGB or RGBA, not interlaced, as Chromium takes screenshots.
    :raises ValueError: if it is another kind of PNG.
    """
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", dict(_chunks(png))[b"IHDR"])
    if depth != 8 or kind not in _CHANNELS or interlaced:
        raise ValueError("this is no PNG as Chromium makes them")
    packed = b"".join(data for name, data in _chunks(png) if name == b"IDAT")
    channels = _CHANNELS[kind]
    rows = [
        [row[place : place + 3] for place in range(0, width * channels, channels)]
        for row in _rows(zlib.decompress(packed), width * channels, channels)
    ]
    palette = [colour for colour, _ in Counter(colour for row in rows for colour in row).most_common(COLOURS)]
    places = {colour: place for place, colour in enumerate(palette)}
    for colour in {colour for row in rows for colour in row} - set(palette):
        places[colour] = min(range(len(palette)), key=lambda place: _distance(palette[place], colour))
    lines = b"".join(b"\x00" + bytes(places[colour] for colour in row) for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in parts)


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(png):
        size, name = struct.unpack(">I4s", png[place : place + 8])
        yield name, png[place + 8 : place + 8 + size]
        place += size + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rows(data: bytes, size: int, step: int) -> Iterator[bytes]:
    """Undo the filters (PNG 9.2)."""
    above = bytearray(size)
    for begin in range(0, len(data), size + 1):
        kind, row = data[begin], bytearray(data[begin + 1 : begin + 1 + size])
        for place in range(size) if kind else ():
            left = row[place - step] if place >= step else 0
            corner = above[place - step] if place >= step else 0
            row[place] = (row[place] + _predicted(kind, left, above[place], corner)) & 0xFF
        above = row
        yield bytes(row)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return {1: left, 2: up, 3: (left + up) // 2}[kind]
