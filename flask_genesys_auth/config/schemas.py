"""A former place, until every import names the new one."""

from __future__ import annotations

from .build import load_settings as load_settings
