from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import RunningSample, running_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSample]:
    """One demonstration for all tests that only ask it something."""
    with running_sample(Path(tmp_path_factory.mktemp("sample"))) as running:
        yield running
