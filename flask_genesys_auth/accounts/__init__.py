"""Who a proven identity is here: our own accounts, or a store over an application's model."""

from .from_model import from_model
from .passwords import ForeignHashes

__all__ = ["ForeignHashes", "from_model"]
