"""Checks what the table of an LDAP directory says together, and brings its names into one form."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from . import addresses, distinguished_names
from .checks import Checks
from .values import Ldap, LdapAttributes, LdapServer

USER = "{user}"
DN = "{dn}"

_PORTS = {"ldaps": 636, "ldap": 389}
_PLAIN = (
    "is plain LDAP and could leave the machine: use ldaps:// or start_tls = true, or set allow_plain = true beside it"
)
_NOT_HERE = 'has no meaning with directory = "ldap": remove it'


def server(text: str) -> LdapServer:
    """Return an address such as ``ldaps://ldap.acme.example``."""
    scheme, separator, authority = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise ValidationError("must be an address that begins with ldaps:// or ldap://")
    host, port = addresses.split_authority(authority.removesuffix("/"))
    return LdapServer(scheme == "ldaps", host, port or _PORTS[scheme])


def name(text: str) -> str:
    """Return a distinguished name."""
    if distinguished_names.parse(text) is None:
        raise ValidationError("must be a distinguished name such as ou=people,dc=acme,dc=example (RFC 4514)")
    return text


def user_name_template(text: str) -> str:
    """Return a distinguished name in which ``{user}`` stands for the whole of one value."""
    steps = distinguished_names.parse(text) or ()
    values = [value for step in steps for _, value in step]
    if text.count(USER) != 1 or USER not in values:
        raise ValidationError(
            "must be a distinguished name with {user} for a whole value, such as uid={user},ou=people,dc=acme"
        )
    return text


def user_filter(text: str) -> str:
    """Return a filter (RFC 4515) that names the user."""
    return _filter(text, USER)


def group_filter(text: str) -> str:
    """Return a filter (RFC 4515) that names the user, by distinguished name or by name."""
    return _filter(text, DN if DN in text else USER)


def _filter(text: str, needed: str) -> str:
    if not text.startswith("(") or not text.endswith(")"):
        raise ValidationError("must be a filter in parentheses, such as (uid={user}) (RFC 4515)")
    if needed not in text:
        raise ValidationError("must say where the name stands, as {user} does in (uid={user})")
    return text


class LdapTable:
    """Reads the ``ldap`` table of a Configuration Server; it is changed in place.

    :param checks: reads and finds; holds the problems.
    """

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._problems = checks.problems

    def check(self, path: str, above: dict[str, Any]) -> None:
        """Find what is wrong with the table, and with what stands above it.

        :param path: the dotted path of what stands above it.
        :param above: the table of the Configuration Server.
        """
        if above.get("directory") != "ldap":
            if "ldap" in above:
                self._problems.add(f"{path}.ldap", 'needs directory = "ldap"')
            return
        for key in ("url", "client_id", "client_secret", "contact_center_id", "proxy"):
            if above.get(key):
                self._problems.add(f"{path}.{key}", _NOT_HERE)
        table = above.setdefault("ldap", {})
        below = f"{path}.ldap"
        self._check_ways(below, table)
        self._check_search(below, table)
        attributes = table.setdefault("attributes", {})
        match = above.get("match", "username")
        if not self._problems.at(f"{below}.attributes"):
            known = LdapAttributes(**attributes)
            if not getattr(known, match):
                self._problems.add(f"{below}.attributes.{match}", f'is required with match = "{match}"')
        self._check_roles(below, table)

    def _check_ways(self, path: str, table: dict[str, Any]) -> None:
        allowed = table.get("allow_plain", False)
        self._checks.required(path, table, "servers")
        for one in table.get("servers", ()):
            if not (allowed or one.tls or table.get("start_tls", True) or one.loopback):
                self._problems.add(f"{path}.servers", _PLAIN)
                return

    def _check_search(self, path: str, table: dict[str, Any]) -> None:
        if not table.get("user_dn") and not table.get("base") and not self._problems.at(path):
            self._problems.add(path, "needs user_dn (bind by template) or base (search, then bind)")
        if table.get("user_dn"):
            for key in ("base", "filter", "scope"):
                if table.get(key):
                    self._problems.add(f"{path}.{key}", "has no meaning beside user_dn: nothing is searched for")
        self._checks.secret(path, table, "bind_password")
        for key, other in (("bind_dn", "bind_password"), ("bind_password", "bind_dn")):
            if key in table:
                self._checks.required(path, table, other, f"is required beside {key}")

    def _check_roles(self, path: str, table: dict[str, Any]) -> None:
        roles: dict[str, str] = {}
        for group, role in table.get("role_map", {}).items():
            if roles.setdefault(distinguished_names.normal(group), role) != role:
                self._problems.add(f"{path}.role_map", "names one group twice, with different roles")
        table["role_map"] = roles
        if table.get("sync_roles"):
            self._checks.required(path, table, "role_map", "is required beside sync_roles")
        elif roles:
            self._problems.add(f"{path}.sync_roles", "must be true where there is a role_map: it does nothing else")
        if roles and not table.get("group_base") and not table["attributes"].get("groups"):
            self._problems.add(f"{path}.attributes.groups", "is required beside role_map, or group_base")
        if table.get("group_filter") and not table.get("group_base"):
            self._checks.required(path, table, "group_base", "is required beside group_filter")


def ldap_values(table: dict[str, Any]) -> Ldap:
    """Return the values of a table that has been found good."""
    return Ldap(**{**table, "attributes": LdapAttributes(**table["attributes"])})
