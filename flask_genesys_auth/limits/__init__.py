"""Limits on failed credentials and repeated calls: the throttle, the cache, and the credential gate over them."""

from .throttle import BeginLimit, FailureLimit, FailureThrottle, Ledger, LocalLedger

__all__ = ["BeginLimit", "FailureLimit", "FailureThrottle", "Ledger", "LocalLedger"]
