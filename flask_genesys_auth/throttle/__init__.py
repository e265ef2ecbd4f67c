"""The throttle: limits on failures, counted in this process or for several nodes in Redis."""

from .failures import FailureLimit, FailureThrottle
from .windows import Ledger, LocalLedger

__all__ = ["FailureLimit", "FailureThrottle", "Ledger", "LocalLedger"]
