"""Whom a step asks about a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..config.rules import imported

if TYPE_CHECKING:
    from ..chain.protocols import Directory
    from ..config.settings import ConfigurationServer
    from ..upstream import Upstreams


def choose_directory(settings: ConfigurationServer, upstreams: Upstreams, *, contact_center: str) -> Directory:
    """Return the directory that a Configuration Server step asks, as its table says.

    :param upstreams: the clients of the application.
    :raises ConfigurationError: if it cannot be made.
    """
    if settings.directory == "genesys":
        from .genesys import GenesysDirectory

        return GenesysDirectory(settings, upstreams.of(settings))
    if settings.directory == "ldap":
        from .ldap import LdapDirectory

        return LdapDirectory(settings, upstreams.guard(settings), contact_center=contact_center)
    path = f"contact_centers.{contact_center}.configuration_server.directory"
    return cast("Directory", imported(settings.directory, path)(settings))
