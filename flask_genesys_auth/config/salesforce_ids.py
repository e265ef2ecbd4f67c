"""A former place, until every import names the new one."""

from __future__ import annotations

from .names import short_id as short_id
