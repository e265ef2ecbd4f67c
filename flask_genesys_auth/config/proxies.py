"""A former place, until every import names the new one."""

from __future__ import annotations

from .addresses import Proxy as Proxy
from .addresses import proxy_of as proxy_of
