"""Everything that an object refers to, at any depth: all that an attacker who reads its memory finds."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType


def reachable(root: object) -> list[object]:
    """Return every value that an object keeps, itself included; no class, module or function is looked into."""
    found: dict[int, object] = {}
    waiting: list[object] = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in found and not isinstance(one, (type, ModuleType, FunctionType)):
            found[id(one)] = one
            waiting += gc.get_referents(one)
    return list(found.values())
