from __future__ import annotations

from tests.slapd import own_slapd as own_slapd
from tests.slapd import slapd as slapd
