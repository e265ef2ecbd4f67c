"""Who a proven identity is here: our own accounts, or a store over an application's model."""

from .from_model import from_model

__all__ = ["from_model"]
