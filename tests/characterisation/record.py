"""The recorded table: read here, and written anew by ``python -m tests.characterisation.record``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .cases import cases
from .deployment import deployed
from .observation import Bench, Row

TABLE = Path(__file__).with_name("table.json")


def recorded() -> dict[str, Row]:
    """Return the rows of the table by their names."""
    found: dict[str, Row] = json.loads(TABLE.read_text("utf-8"))
    return found


def main() -> None:
    """Observe every case, and write one line for each, in the order of their names."""
    with deployed() as deployment:
        bench = Bench(deployment)
        rows = {case.id: bench.observe(case) for case in cases()}
    lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(rows.items())]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    sys.stdout.write(f"{TABLE.name}: {len(rows)} rows\n")


if __name__ == "__main__":
    main()
