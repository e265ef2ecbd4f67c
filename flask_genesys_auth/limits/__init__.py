"""What bounds how often servers are asked: the throttle, verified credentials, recent reads, and the gate over them."""

from .throttle import BeginLimit, FailureLimit, FailureThrottle, Ledger, LocalLedger

__all__ = ["BeginLimit", "FailureLimit", "FailureThrottle", "Ledger", "LocalLedger"]
