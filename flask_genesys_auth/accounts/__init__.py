"""The accounts that identities belong to: the built-in store, or a store over an application's own model."""

from .from_model import from_model
from .passwords import ForeignHashes

__all__ = ["ForeignHashes", "from_model"]
