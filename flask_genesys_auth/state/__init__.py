"""Stores for small values that expire: in memory, in SQL, and in Redis."""

from .tables import metadata

__all__ = ["metadata"]
