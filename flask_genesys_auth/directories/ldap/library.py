"""Brings in ldap3, which is an extra, and says how to install it where it is missing."""

from __future__ import annotations

import warnings

from ...errors import ConfigurationError

try:
    with warnings.catch_warnings():
        # ldap3 2.9.1 imports pyasn1's tables by their old names; nobody here can do anything about it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import ldap3
        from ldap3.core.exceptions import LDAPInvalidFilterError, LDAPSessionTerminatedByServerError
        from ldap3.operation.search import search_operation
        from ldap3.protocol.rfc4511 import Control
except ImportError as error:
    raise ConfigurationError(
        f'directory = "ldap" needs ldap3 ({error}): pip install "flask-genesys-auth[ldap]"'
    ) from error

__all__ = ["Control", "LDAPInvalidFilterError", "LDAPSessionTerminatedByServerError", "ldap3", "search_operation"]
