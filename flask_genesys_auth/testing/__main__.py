"""``python -m flask_genesys_auth.testing identity-provider``: run the development SAML identity provider."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from .identity_provider import DevelopmentIdentityProvider
from .server import LoopbackServer


@click.group()
def main() -> None:
    """Run a part of the testing kit, on this machine only."""


@main.command("identity-provider", short_help="Run a SAML identity provider without passwords.")
@click.option("--host", type=click.Choice(["localhost", "127.0.0.1"]), default="localhost", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=5001, show_default=True, help="0: a free port.")
@click.option(
    "--user", "users", metavar="NAME", multiple=True, required=True, help="A user who can sign in; repeatable."
)
@click.option(
    "--metadata",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write its metadata here, for the application's configuration.",
)
def identity_provider(host: str, port: int, users: tuple[str, ...], metadata: Path | None) -> None:
    """Run a SAML identity provider for development until Ctrl-C.

    It does not require a password, generates a signing key at each start, and answers this machine only. Browsers treat
    localhost and 127.0.0.1 as two sites: serve the application on the other one, as in production.
    """
    provider = DevelopmentIdentityProvider()
    for name in users:
        provider.add_user(name)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with LoopbackServer(provider, host=host, port=port) as server:
        provider.url = server.url
        if metadata is not None:
            _write(provider, metadata)
        click.echo(f"The identity provider is running at {provider.url}/")
        click.echo(f"Its metadata are at {provider.entity_id}" + (f" and in {metadata}" if metadata else ""))
        click.echo("Press Ctrl-C to stop it.")
        # With a timeout: on some systems a signal does not interrupt an unbounded wait.
        while not stopped.wait(1.0):
            pass


def _write(provider: DevelopmentIdentityProvider, metadata: Path) -> None:
    try:
        provider.write_metadata(metadata)
    except OSError as error:
        raise click.ClickException(f"{metadata}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    main(prog_name="python -m flask_genesys_auth.testing")
