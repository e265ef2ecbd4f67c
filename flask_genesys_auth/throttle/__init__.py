"""The throttle: limits on failures, counted in this process or for several nodes in Redis."""

from .failures import BeginLimit, FailureLimit, FailureThrottle
from .windows import Ledger, LocalLedger

__all__ = ["BeginLimit", "FailureLimit", "FailureThrottle", "Ledger", "LocalLedger"]
