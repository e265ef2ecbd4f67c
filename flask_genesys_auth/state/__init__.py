"""Where small values with an end are kept."""

from .tables import metadata

__all__ = ["metadata"]
