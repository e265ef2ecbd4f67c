"""What applications import in their own tests: a client, fixtures, an identity provider, emulators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import AuthClient
from .genesys import GenesysEmulator
from .salesforce import SalesforceEmulator
from .server import LoopbackServer

if TYPE_CHECKING:
    from .identity_provider import DevelopmentIdentityProvider

__all__ = [
    "AuthClient",
    "DevelopmentIdentityProvider",
    "GenesysEmulator",
    "LoopbackServer",
    "SalesforceEmulator",
]


def __getattr__(name: str) -> Any:
    """Import what needs the SAML libraries only when it is asked for."""
    if name == "DevelopmentIdentityProvider":
        from .identity_provider import DevelopmentIdentityProvider

        return DevelopmentIdentityProvider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
