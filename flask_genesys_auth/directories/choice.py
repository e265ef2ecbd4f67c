"""Which directory a Configuration Server step asks, as its table says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..config.rules import imported
from .genesys import GenesysDirectory

if TYPE_CHECKING:
    from ..chain.protocols import Directory
    from ..config.settings import ConfigurationServer
    from ..upstream import Upstreams


def choose_directory(settings: ConfigurationServer, upstreams: Upstreams, *, contact_center: str) -> Directory:
    """Return the directory of a contact center.

    :param upstreams: the clients of the application.
    :raises ConfigurationError: if it cannot be made.
    """
    if settings.directory == "genesys":
        return GenesysDirectory(settings, upstreams.of(settings))
    if settings.directory == "ldap":
        from .ldap import LdapDirectory

        return LdapDirectory(settings, upstreams.guard(settings), contact_center=contact_center)
    path = f"contact_centers.{contact_center}.configuration_server.directory"
    return cast("Directory", imported(settings.directory, path)(settings))
