"""``saml ...``: our metadata, the identity providers' metadata, and keys of our own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from flask.cli import with_appcontext

from ..errors import ConfigurationError
from ..state.memory import MemoryState
from .common import Commands, as_json, parts, print_json, utc_time

if TYPE_CHECKING:
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import Change, TrustedProvider
    from ..web.runtime import Runtime

_LONGEST_NAME = 64  # RFC 5280 A.1, ub-common-name

saml = Commands("saml", help="The SAML service provider: metadata and keys.")


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


@saml.command("keygen", short_help="Make a key and its certificate.")
@click.option("--out-key", required=True, type=click.Path(path_type=Path), help="Where the private key goes.")
@click.option("--out-cert", required=True, type=click.Path(path_type=Path), help="Where its certificate goes.")
@click.option("--name", default="flask-genesys-auth", show_default=True, help="The certificate's common name.")
@click.option("--days", default=1095, show_default=True, type=click.IntRange(1, 7300), help="How long it is valid.")
@click.option("--bits", default=3072, show_default=True, type=click.IntRange(2048, 8192), help="Of the RSA key.")
def keygen(out_key: Path, out_cert: Path, name: str, days: int, bits: int) -> None:
    """Make an RSA key and a self-signed certificate; files that are there already are never overwritten."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise click.UsageError(f"--name: must have 1 to {_LONGEST_NAME} printable characters")
    if out_key.absolute() == out_cert.absolute():
        raise click.UsageError("--out-key and --out-cert name the same file")
    from ..saml.keys import generate_pair

    made: list[Path] = []
    try:
        # Both are opened before the key is made, so that what cannot be written shows at once.
        with _created(out_key, 0o600, made) as key_file, _created(out_cert, 0o644, made) as certificate_file:
            key, certificate = generate_pair(name, days=days, bits=bits)
            key_file.write(key)
            certificate_file.write(certificate)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.unlink()
        raise
    _print_use(out_key, out_cert)


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
    return None if seconds is None else utc_time(seconds)


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


@contextmanager
def _created(path: Path, mode: int, made: list[Path]) -> Iterator[BinaryIO]:
    """Create a file that nobody else may read from the beginning, if that is its mode.

    :param made: is given the path once there is something to be removed.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise click.ClickException(f"{path}: is there already and is not overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from None
    made.append(path)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open already
            yield file
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from None


def _print_use(out_key: Path, out_cert: Path) -> None:
    key, certificate = (f"{{ file = {_quoted(path)} }}" for path in (out_key, out_cert))
    click.echo("To sign with it, in the contact center's saml table:\n")
    click.echo(f"signing_key = {key}\nsigning_certificate = {certificate}\n")
    click.echo("If it succeeds another one, that one stays until all providers know the new certificate:\n")
    click.echo(f"next_signing_certificate = {certificate}\n")
    click.echo("To decrypt with it, the newest first while it succeeds another one:\n")
    click.echo(f"encryption_keys = [{{ key = {key}, certificate = {certificate} }}]")


def _quoted(path: Path) -> str:
    # A JSON string is a TOML string, too, as long as it needs no surrogates.
    return json.dumps(click.format_filename(path.absolute()), ensure_ascii=False)
