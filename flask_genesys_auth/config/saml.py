"""Checks what the tables of SAML say together, and reads the keys, certificates and files they name."""

from __future__ import annotations

from typing import Any

from . import addresses
from .checks import Checks
from .problems import dotted

_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


class SamlTables:
    """Reads the ``saml`` table of one contact center; it is changed in place.

    :param checks: reads and finds; holds the problems.
    """

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._problems = checks.problems

    def check(self, path: str, table: dict[str, Any]) -> None:
        """Find what is wrong with the table.

        :param path: its dotted path.
        """
        self._check_signing(path, table)
        for place, pair in enumerate(table.get("encryption_keys", ())):
            self._check_pair(f"{path}.encryption_keys.{place}", pair)
        providers = table.setdefault("identity_providers", {})
        path = f"{path}.identity_providers"
        if not providers and not self._problems.at(path):
            self._problems.add(path, "is required: a table for each identity provider, at least one")
        known: dict[tuple[str, str], str] = {}
        for name, provider in providers.items():
            below = dotted(path, name)
            provider["name"] = name
            self._check_metadata(below, provider)
            self._check_enrolment(below, provider)
            if provider.get("metadata"):
                same = known.setdefault((str(provider["metadata"]), provider.get("entity_id", "")), below)
                if same != below:
                    self._problems.add(
                        f"{below}.metadata", f"is that of {same} already: each needs an entity_id of its own"
                    )

    def _check_signing(self, path: str, table: dict[str, Any]) -> None:
        self._checks.private_key(path, table, "signing_key")
        self._checks.certificate(path, table, "signing_certificate")
        self._checks.certificate(path, table, "next_signing_certificate")
        for given, other in (("signing_key", "signing_certificate"), ("signing_certificate", "signing_key")):
            if given in table:
                self._checks.required(path, table, other, f"is required beside {given}")
        signs = "signing_key" in table or self._problems.at(f"{path}.signing_key")
        for key in ("next_signing_certificate", "sign_metadata"):
            if table.get(key) and not signs:
                self._problems.add(f"{path}.{key}", "needs a signing_key")

    def _check_pair(self, path: str, pair: dict[str, Any]) -> None:
        self._checks.private_key(path, pair, "key")
        self._checks.certificate(path, pair, "certificate")
        for key in ("key", "certificate"):
            if pair or not self._problems.at(path):
                self._checks.required(path, pair, key)

    def _check_metadata(self, path: str, provider: dict[str, Any]) -> None:
        allowed = provider.get("allow_http", False)
        self._checks.required(path, provider, "metadata")
        self._checks.certificate(path, provider, "metadata_certificate")
        given = provider.get("metadata")
        if given and not addresses.is_address(given):
            provider["metadata"] = self._checks.file(f"{path}.metadata", given)
            if "metadata_refresh" in provider:
                self._problems.add(
                    f"{path}.metadata_refresh", "needs metadata from an address: a file is read anew when it changes"
                )
        elif given and addresses.plain_http(given):
            self._checks.http(f"{path}.metadata", given, allowed)
            if allowed:
                self._checks.required(
                    path, provider, "metadata_certificate", "is required where the metadata come by plain http"
                )

    def _check_enrolment(self, path: str, provider: dict[str, Any]) -> None:
        readable = "attributes" in provider or not self._problems.at(f"{path}.attributes")
        attributes = {ours: theirs for ours, theirs in provider.get("attributes", {}).items() if theirs}
        provider["attributes"] = attributes
        if provider.get("link_by"):
            self._checks.required(path, provider, "email_domains", "is required beside link_by")
        if provider.get("sync_roles"):
            self._checks.required(path, provider, "role_map", "is required beside sync_roles")
        wants_groups = next((key for key in ("role_map", "sync_roles") if provider.get(key)), None)
        if wants_groups and readable:
            self._checks.required(f"{path}.attributes", attributes, "groups", f"is required beside {wants_groups}")
        if provider.get("match", "name_id") == "name_id" and provider.get("name_id_format") == _TRANSIENT:
            self._problems.add(
                f"{path}.name_id_format", "asks for transient names, by which nobody is ever found: match an attribute"
            )
