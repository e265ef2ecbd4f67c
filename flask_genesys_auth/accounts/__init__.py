"""Who a proven identity is here: our own accounts, or a store over an application's model."""

from .foreign import ForeignHashes
from .from_model import from_model

__all__ = ["ForeignHashes", "from_model"]
