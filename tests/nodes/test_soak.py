"""The soak runs, counts, and tells what grows from what is level; minutes of it are ``python -m benchmarks.soak``."""

from __future__ import annotations

import pytest

from benchmarks import soak

from .deployment import Deployment


def test_short_soak_measures_every_worker_without_findings(redis_portal: Deployment) -> None:
    tally, series = soak.watch(redis_portal, 2.5, pause=0.02, interval=0.2)
    assert len(series) == 4
    for one in series:
        assert min(one.resident) > 10 * 2**20
        assert min(one.files) > 3
        assert "MiB" in str(one)
    assert (tally.wrong, tally.lost, tally.undocumented) == ([], [], [])
    assert set(tally.statuses("SAML")) == {"200", "303"}


@pytest.mark.parametrize(
    ("resident", "files", "level"),
    [
        ([100] * 50, [20] * 50, True),
        # What a worker takes at first, when everything is imported and every pool is filled, is no growth.
        ([10] * 10 + [100] * 40, [5] * 10 + [20] * 40, True),
        (list(range(100, 150)), [20] * 50, False),
        ([100] * 50, list(range(20, 70)), False),
    ],
)
def test_growth_is_distinguished_from_a_level_series(resident: list[int], files: list[int], level: bool) -> None:
    assert soak.Series("worker", resident, files).level is level
