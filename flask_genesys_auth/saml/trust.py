"""Whom a contact center trusts: each identity provider as its metadata describe it at this moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xmlsec

from ..config.values import IdentityProvider
from .metadata import ProviderMetadata

if TYPE_CHECKING:
    from onelogin.saml2.settings import OneLogin_Saml2_Settings


@dataclass(frozen=True, slots=True)
class Trust:
    """One identity provider at one moment; whoever handles a message takes one and keeps to it.

    :param settings: its configuration.
    :param keys: those that may have signed, all of them: while it rolls over it has two.
    :param toolkit: python3-saml's settings, for messages to it. Holds the signing key.
    """

    settings: IdentityProvider
    metadata: ProviderMetadata
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    toolkit: OneLogin_Saml2_Settings = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its table."""
        return self.settings.name

    @property
    def entity_id(self) -> str:
        """Its own name for itself."""
        return self.metadata.entity_id


class TrustedProvider:
    """One identity provider for as long as the application runs; its metadata may change meanwhile.

    :param settings: its configuration.
    :param found: its metadata.
    :param describe: makes the trust of metadata.
    """

    def __init__(
        self,
        settings: IdentityProvider,
        found: ProviderMetadata,
        describe: Callable[[IdentityProvider, ProviderMetadata], Trust],
    ) -> None:
        self.settings = settings
        self._current = describe(settings, found)

    def __repr__(self) -> str:
        return f"TrustedProvider({self.settings.name!r})"

    def current(self) -> Trust:
        """Return what is known of the provider now."""
        return self._current
