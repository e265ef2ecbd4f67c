"""The pictures of the documentation: the script takes every one of them, they are small, and pages use them."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest

from docs import screenshots
from docs.small_png import shrink
from tests.servers import require

ROOT = Path(__file__).parents[2]


@pytest.mark.browser
def test_the_script_takes_the_pictures_that_are_there(tmp_path: Path) -> None:
    require("chromium", "chromium")
    require("chromedriver", "chromium-driver")
    screenshots.take(tmp_path)
    taken = {path.name for path in tmp_path.iterdir()}
    assert taken == set(screenshots.PICTURES) == {path.name for path in screenshots.FOLDER.glob("*.png")}
    for path in tmp_path.iterdir():
        width, height = size_of(path.read_bytes())
        assert width == screenshots.WIDTH
        # The same page: letters may be a little different on another machine.
        assert abs(height - size_of((screenshots.FOLDER / path.name).read_bytes())[1]) < 100, path.name


def size_of(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_every_picture_is_small_and_used_with_words_for_those_who_do_not_see_it() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    used = {
        Path(target).name: words
        for page in pages
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+\.(?:png|svg))\)", page.read_text("utf-8"))
    }
    files = sorted(screenshots.FOLDER.iterdir())
    assert sorted(used) == [path.name for path in files]
    assert all(used.values())
    assert [path.name for path in files if path.stat().st_size > screenshots.LARGEST] == []


def picture(rows: list[tuple[int, bytes]], width: int) -> bytes:
    """A PNG of rows with their filters."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    data = b"".join(bytes([kind]) + row for kind, row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "second"),
    [
        (0, bytes([10, 20, 30, 40, 50, 60])),
        (1, bytes([10, 20, 30, 30, 30, 30])),
        (2, bytes([9, 18, 27, 36, 45, 54])),
        (3, bytes([10, 19, 29, 33, 38, 42])),
        (4, bytes([9, 18, 27, 30, 30, 30])),
    ],
)
def test_a_small_picture_shows_the_same(kind: int, second: bytes) -> None:
    first = bytes([1, 2, 3, 4, 5, 6])
    small = shrink(picture([(0, first), (kind, second)], 2))
    place = small.index(b"PLTE")
    palette = small[place + 4 : place + 4 + struct.unpack(">I", small[place - 4 : place])[0]]
    place = small.index(b"IDAT")
    lines = zlib.decompress(small[place + 4 : place + 4 + struct.unpack(">I", small[place - 4 : place])[0]])
    shown = [palette[3 * entry : 3 * entry + 3] for row in (lines[1:3], lines[4:6]) for entry in row]
    assert b"".join(shown) == first + bytes([10, 20, 30, 40, 50, 60])


def test_what_chromium_does_not_make_is_refused() -> None:
    grey = picture([(0, b"\x01")], 1).replace(struct.pack(">BB", 8, 2), struct.pack(">BB", 8, 0), 1)
    with pytest.raises(ValueError, match="Chromium"):
        shrink(grey)
