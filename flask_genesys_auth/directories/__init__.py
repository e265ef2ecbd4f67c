"""The directories that verify passwords and sessions for the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..config.rules import imported

if TYPE_CHECKING:
    from ..chain.protocols import Directory
    from ..config.settings import ConfigurationServer
    from ..upstream import Upstreams


def make_directory(settings: ConfigurationServer, upstreams: Upstreams, *, contact_center: str) -> Directory:
    """Return the directory for the settings of a Configuration Server step.

    :raises ConfigurationError: if the directory cannot be imported, or its settings are not valid.
    """
    if settings.directory == "genesys":
        from .genesys import GenesysDirectory

        return GenesysDirectory(settings, upstreams.of(settings))
    if settings.directory == "ldap":
        from .ldap import LdapDirectory

        return LdapDirectory(settings, upstreams.guard(settings), contact_center=contact_center)
    path = f"contact_centers.{contact_center}.configuration_server.directory"
    return cast("Directory", imported(settings.directory, path)(settings))
