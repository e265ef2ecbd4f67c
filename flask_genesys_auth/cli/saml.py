"""``saml ...``: print our metadata, fetch the identity providers' metadata, generate keys."""

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
from .base import Commands, as_json, print_json, require_runtime, utc_time

if TYPE_CHECKING:
    from ..saml.service_provider import ServiceProvider
    from ..saml.trust import Change, TrustedProvider
    from ..web.runtime import Runtime

_LONGEST_NAME = 64  # RFC 5280 A.1, ub-common-name

saml = Commands("saml", help="Manage SAML metadata and keys.")


@saml.command("metadata", short_help="Print our metadata.")
@click.argument("contact_center", required=False)
@with_appcontext
def metadata(contact_center: str | None) -> None:
    """Print the service provider metadata that identity providers need.

    CONTACT_CENTER may be omitted if only one has SAML.
    """
    here = require_runtime()
    services = _services(here, contact_center)
    if len(services) > 1:
        raise click.ClickException(f"several contact centers have SAML; name one of: {_names(here)}")
    click.echo(services[0].metadata_xml().decode().rstrip())


@saml.command("refresh", short_help="Fetch the providers' metadata now.")
@click.argument("contact_center", required=False)
@click.option("--provider", metavar="NAME", help="Fetch from this identity provider only.")
@as_json
@with_appcontext
@click.pass_context
def refresh(context: click.Context, contact_center: str | None, provider: str | None, as_json: bool) -> None:
    """Fetch the identity providers' metadata now and print the changes.

    If metadata cannot be fetched or used, the last valid copy remains in use, and the exit status is 1. Running
    processes read the new metadata from the state within a minute.
    """
    here = require_runtime()
    providers = [one for service in _services(here, contact_center) for one in service.providers.values()]
    chosen = [one for one in providers if provider in {None, one.settings.name}]
    if not chosen:
        known = ", ".join(sorted({one.settings.name for one in providers}))
        raise click.ClickException(f"unknown identity provider {provider!r}; configured: {known}")
    found = [_refresh(here, one) for one in chosen]
    here.state.close()
    if as_json:
        print_json(found)
    else:
        for row in found:
            _print(row)
    if not all(row["ok"] for row in found):
        context.exit(1)


@saml.command("keygen", short_help="Generate a key and its certificate.")
@click.option("--out-key", required=True, type=click.Path(path_type=Path), help="File for the private key.")
@click.option("--out-cert", required=True, type=click.Path(path_type=Path), help="File for the certificate.")
@click.option("--name", default="flask-genesys-auth", show_default=True, help="The certificate's common name.")
@click.option("--days", default=1095, show_default=True, type=click.IntRange(1, 7300), help="Validity in days.")
@click.option("--bits", default=3072, show_default=True, type=click.IntRange(2048, 8192), help="Size of the RSA key.")
def keygen(out_key: Path, out_cert: Path, name: str, days: int, bits: int) -> None:
    """Generate an RSA key and a self-signed certificate. Existing files are never overwritten."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise click.UsageError(f"--name: must have 1 to {_LONGEST_NAME} printable characters")
    if out_key.absolute() == out_cert.absolute():
        raise click.UsageError("--out-key and --out-cert name the same file")
    from ..saml.keys import generate_pair

    made: list[Path] = []
    try:
        # Both files are opened first: a path that cannot be written fails before the key is generated.
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
    """Return the service provider of one contact center, or of all."""
    if not here.saml.service_providers:
        raise click.ClickException("no contact center has a saml table")
    if contact_center is None:
        return list(here.saml.service_providers.values())
    if contact_center not in here.saml.service_providers:
        raise click.ClickException(f"contact center {contact_center!r} has no saml table; with SAML: {_names(here)}")
    return [here.saml.service_providers[contact_center]]


def _names(here: Runtime) -> str:
    return ", ".join(here.saml.service_providers)


def _refresh(here: Runtime, provider: TrustedProvider) -> dict[str, Any]:
    """Fetch one provider's metadata; return the result for JSON."""
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
    # A copy in this process's memory ends with it.
    shared = change.shared and (provider.source.is_local or not isinstance(here.state, MemoryState))
    return {**row, "ok": True, **_change_json(change), "shared": shared}


def _change_json(change: Change) -> dict[str, Any]:
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
        click.echo(f"  failed: {row['error']}; the last valid copy remains in use")
        return
    ends = f"valid until {row['valid_until']}" if row["valid_until"] else "without an expiry time"
    click.echo(f"  {row['entity_id']}, {ends}")
    for kind in ("added", "removed", "kept"):
        for certificate in row[kind]:
            ends = f", expires {certificate['ends']}" if certificate["ends"] else ""
            click.echo(f"  certificate {kind}: {certificate['sha256']}{ends}")
    if not row["changed"]:
        click.echo("  unchanged")
    if not row["shared"]:
        click.echo("  not stored in the state: running processes fetch it at their next metadata_refresh")


@contextmanager
def _created(path: Path, mode: int, made: list[Path]) -> Iterator[BinaryIO]:
    """Create a file with its final mode from the start.

    :param made: receives the path, so that a failure can remove the file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise click.ClickException(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    made.append(path)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open already
            yield file
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


def _print_use(out_key: Path, out_cert: Path) -> None:
    key, certificate = (f"{{ file = {_quoted(path)} }}" for path in (out_key, out_cert))
    click.echo("To sign with this key, add to the contact center's saml table:\n")
    click.echo(f"signing_key = {key}\nsigning_certificate = {certificate}\n")
    click.echo("To replace another signing key, keep that key until all providers know the new certificate, and add:\n")
    click.echo(f"next_signing_certificate = {certificate}\n")
    click.echo("To decrypt with this key, add (during a replacement, the newest key first):\n")
    click.echo(f"encryption_keys = [{{ key = {key}, certificate = {certificate} }}]")


def _quoted(path: Path) -> str:
    # A JSON string without surrogates is a TOML string too.
    return json.dumps(click.format_filename(path.absolute()), ensure_ascii=False)
