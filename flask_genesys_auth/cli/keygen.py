"""``saml keygen``: a key and its certificate, for signing or for decryption."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

_LONGEST_NAME = 64  # RFC 5280 A.1, ub-common-name


@click.command("keygen", short_help="Make a key and its certificate.")
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
