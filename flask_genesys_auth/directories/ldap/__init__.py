"""Verifies passwords with an LDAP directory (RFC 4511), as Configuration Server's External Authentication does.

``ldap3`` writes and reads the messages; sockets, TLS, deadlines and the circuit breaker are those of
:mod:`flask_genesys_auth.upstream`. Imported only with ``directory = "ldap"``.
"""

from .directory import LdapDirectory

__all__ = ["LdapDirectory"]
