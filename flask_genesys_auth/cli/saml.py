"""``saml ...``: our metadata, the identity providers' metadata, and keys of our own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext

from ..errors import ConfigurationError
from ..state.memory import MemoryState
from .common import Commands, as_json, parts, print_json
from .keygen import keygen

if TYPE_CHECKING:
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import Change, TrustedProvider
    from ..web.runtime import Runtime

saml = Commands("saml", help="The SAML service provider: metadata and keys.")
saml.add_command(keygen)


@saml.command("metadata", short_help="Print our metadata.")
@click.argument("contact_center", required=False)
@with_appcontext
def metadata(contact_center: str | None) -> None:
    """Print our metadata, as the identity providers need them.

    CONTACT_CENTER may be left out where only one has SAML.
    """
    here = parts()
    services = _services(here, contact_center)
    if len(services) > 1:
        raise click.ClickException(f"several contact centers have SAML, name one of: {_listed(here)}")
    click.echo(services[0].metadata_xml().decode().rstrip())


@saml.command("refresh", short_help="Fetch the metadata now, tell what has changed.")
@click.argument("contact_center", required=False)
@click.option("--provider", metavar="NAME", help="One identity provider only.")
@as_json
@with_appcontext
@click.pass_context
def refresh(context: click.Context, contact_center: str | None, provider: str | None, as_json: bool) -> None:
    """Fetch the identity providers' metadata now, and tell what has changed.

    What cannot be fetched or used is reported, the last good copy stays in force, and the exit status is 1. Running
    processes take what is new from the state within a minute.
    """
    here = parts()
    chosen = list(_providers(_services(here, contact_center), provider))
    if not chosen:
        raise click.ClickException(f"there is no identity provider {provider!r} there")
    found = [_refreshed(here, one) for one in chosen]
    here.state.close()
    if as_json:
        print_json(found)
    else:
        for row in found:
            _print(row)
    if not all(row["ok"] for row in found):
        context.exit(1)


def _services(here: Runtime, contact_center: str | None) -> list[ServiceProvider]:
    """Return one contact center's service provider, or all of them."""
    if not here.saml.service_providers:
        raise click.ClickException("no contact center has a saml table")
    if contact_center is None:
        return list(here.saml.service_providers.values())
    if contact_center not in here.saml.service_providers:
        raise click.ClickException(f"{contact_center!r} is no contact center with SAML; there are: {_listed(here)}")
    return [here.saml.service_providers[contact_center]]


def _listed(here: Runtime) -> str:
    return ", ".join(here.saml.service_providers)


def _providers(services: list[ServiceProvider], name: str | None) -> Iterator[TrustedProvider]:
    for service in services:
        for provider in service.providers.values():
            if name in {None, provider.settings.name}:
                yield provider


def _refreshed(here: Runtime, provider: TrustedProvider) -> dict[str, Any]:
    """Return what came of one provider's metadata, as JSON."""
    from ..saml.metadata import MetadataRefused

    row: dict[str, Any] = {
        "contact_center": provider.contact_center,
        "provider": provider.settings.name,
        "from": provider.source.where,
    }
    try:
        change = provider.refresh()
    except (MetadataRefused, ConfigurationError) as error:
        return {**row, "ok": False, "error": str(error)}
    # What is kept in this process's memory ends with it.
    shared = change.shared and (provider.source.is_local or not isinstance(here.state, MemoryState))
    return {**row, "ok": True, **_told(change), "shared": shared}


def _told(change: Change) -> dict[str, Any]:
    from ..saml.keys import fingerprint, not_after

    def described(certificates: list[bytes]) -> list[dict[str, Any]]:
        return [{"sha256": fingerprint(one), "ends": _moment(not_after(one))} for one in certificates]

    before = () if change.before is None else change.before.certificates
    after = change.after.certificates
    return {
        "entity_id": change.after.entity_id,
        "valid_until": _moment(change.after.valid_until),
        "added": described([one for one in after if one not in before]),
        "removed": described([one for one in before if one not in after]),
        "kept": described([one for one in after if one in before]),
        "changed": change.before != change.after,
    }


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(row: dict[str, Any]) -> None:
    click.echo(f"{row['contact_center']}/{row['provider']}  {row['from']}")
    if not row["ok"]:
        click.echo(f"  failed: {row['error']}; what was known stays in force")
        return
    ends = f"valid until {row['valid_until']}" if row["valid_until"] else "without an end"
    click.echo(f"  {row['entity_id']}, {ends}")
    for kind in ("added", "removed", "kept"):
        for certificate in row[kind]:
            ends = f", ends {certificate['ends']}" if certificate["ends"] else ""
            click.echo(f"  certificate {kind}: {certificate['sha256']}{ends}")
    if not row["changed"]:
        click.echo("  nothing has changed")
    if not row["shared"]:
        click.echo("  the state does not keep it: running processes learn of it when metadata_refresh is due")
