"""What names a contact center can name only one: ids, hosts, domains, realms, organizations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .addresses import address, bracketed
from .problems import dotted, shown

_CLAIMS = ("hosts", "domains", "realms")


def conflicts(centers: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the path and the finding of each claim that an earlier contact center has made already.

    :param centers: the tables by name; a step that is switched off claims nothing.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, table in centers.items():
        path = dotted("contact_centers", name)
        for place, kind, value in _claims(name, table):
            owner = owners.setdefault((kind, value), path)
            if owner == path:
                continue
            if kind == "name":
                yield path, f"differs from {owner} by upper and lower case alone"
            else:
                yield dotted(path, place), f"{shown(value)} belongs to {owner} already"


def _claims(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    # In an address, in an environment variable and to an operator ACME and acme are one.
    yield "", "name", name.lower()
    yield "id", "id", table.get("id") or name
    for kind in _CLAIMS:
        for value in table.get(kind, ()):
            yield kind, kind, value
    for value in table.get("salesforce", {}).get("organizations", ()):
        yield "salesforce.organizations", "organizations", value


def saml_hosts(centers: Mapping[str, Mapping[str, Any]], public_url: str) -> Iterator[tuple[str, str]]:
    """Yield where several contact centers have SAML and the host of a ``public_url`` does not tell which is meant.

    :param public_url: that of all contact centers which have none of their own, or empty.
    """
    with_saml = {name: table for name, table in centers.items() if "saml" in table}
    owners = {host: name for name, table in centers.items() for host in table.get("hosts", ())}
    for name, table in with_saml.items():
        url = table.get("public_url") or public_url
        if not url:
            continue
        parts = address(url)
        owner = owners.get(parts.netloc) or owners.get(bracketed(parts.host))
        path = dotted(dotted("contact_centers", name), "public_url")
        if owner not in {None, name}:
            yield path, f"its host belongs to {dotted('contact_centers', owner)}"
        elif owner is None and len(with_saml) > 1:
            yield path, "its host must be in hosts, where several contact centers have SAML"
