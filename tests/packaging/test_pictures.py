"""The pictures of the documentation: the script takes all of them, they are small, and pages use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver

from docs import screenshots
from tests.sample.running import running_sample

ROOT = Path(__file__).parents[2]


@pytest.mark.browser
def test_script_takes_every_picture(tmp_path: Path, chromium: webdriver.Chrome) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with running_sample(tmp_path) as sample:
        screenshots.take(folder, chromium, sample)
    taken = {path.name for path in folder.iterdir()}
    assert taken == set(screenshots.PICTURES) == {path.name for path in screenshots.FOLDER.iterdir()}
    for path in folder.iterdir():
        width, height = size_of(path)
        assert width == screenshots.WIDTH
        # The same page; fonts differ between machines.
        assert abs(height - size_of(screenshots.FOLDER / path.name)[1]) < 100, path.name
        assert path.stat().st_size <= screenshots.LARGEST, path.name


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.width, picture.height


def test_every_picture_is_small_and_has_alternative_text() -> None:
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
