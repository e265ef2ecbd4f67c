"""Asks an LDAP directory (RFC 4511): the one that Configuration Server's External Authentication hands passwords to.

``ldap3`` writes and reads the messages; sockets, TLS, time and what an outage costs are those of
:mod:`flask_genesys_auth.upstream`. Imported only where ``directory = "ldap"``.
"""

from .directory import LdapDirectory

__all__ = ["LdapDirectory"]
