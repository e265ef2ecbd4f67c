"""A former place, until every import names the new one."""

from __future__ import annotations

from .rules import imported as imported
