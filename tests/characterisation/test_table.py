"""Every request of the table is answered as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cases import cases
from .deployment import deployed
from .observation import Bench, Case
from .record import recorded

TABLE = recorded()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with deployed() as deployment:
        yield Bench(deployment)


def test_the_table_has_a_row_for_each_case() -> None:
    assert list(TABLE) == [case.id for case in cases()]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_request_is_answered_as_recorded(bench: Bench, case: Case) -> None:
    assert bench.observe(case) == TABLE[case.id]
