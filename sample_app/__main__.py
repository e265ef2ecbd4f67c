"""``python -m sample_app``: runs the sample application, by itself with everything it asks, or on a configuration."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from flask_genesys_auth.errors import ConfigurationError, GenesysAuthError

from .application import build_app, read_configuration
from .demo import Demonstration
from .server import CannotListen, Server, is_loopback, wait_until_answering


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit status.

    :returns: 0 after a clean stop, 1 if a port or file cannot be had, 2 if the configuration cannot be served.
    """
    options = _read_arguments(arguments)
    try:
        with ExitStack() as stack:
            told = stack.enter_context(_signals())
            _start(options, stack)
            told.recv(1)
    except ConfigurationError as error:
        return _complain(error, 2)
    except (CannotListen, GenesysAuthError, OSError) as error:
        return _complain(error, 1)
    return 0


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give a socket on which each Ctrl-C and SIGTERM from now on is one byte, whenever it is read.

    The interpreter's own writing (``signal.set_wakeup_fd``) is the one way that loses none: a signal that arrives
    just before a call blocks does not wake it.
    """
    heard, said = socket.socketpair()
    with heard, said:
        said.setblocking(False)
        former = signal.set_wakeup_fd(said.fileno())
        handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(former)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _complain(error: Exception, status: int) -> int:
    click.echo(f"sample_app: {error}", err=True)
    return status


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sample_app", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; without it, the demonstration runs")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=5000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="written as JSON once every port answers")
    options = parser.parse_args(arguments)
    if options.config is None and not is_loopback(options.host):
        parser.error("the demonstration stays on loopback; to listen elsewhere, name a configuration with --config")
    return options


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _start(options: argparse.Namespace, stack: ExitStack) -> None:
    server = stack.enter_context(Server(options.host, options.port))
    if options.config is None:
        demonstration = stack.enter_context(Demonstration(server.url))
        ready, lines = demonstration.describe(), demonstration.lines()
        app = build_app(demonstration.configuration, demonstration.folder)
    else:
        path = options.config.absolute()
        ready = {"addresses": {"application": server.url}, "configuration": str(path), "credentials": {}, "headers": {}}
        lines = [f"The sample application answers at {server.url}/ on the configuration {path}."]
        app = build_app(read_configuration(path), path.parent)
    server.serve(app)
    for address in ready["addresses"].values():
        wait_until_answering(address)
    click.echo("\n".join([*lines, "Ctrl-C stops it."]))
    if options.ready_file is not None:
        stack.callback(_write(options.ready_file, {**ready, "pid": os.getpid()}))


def _write(path: Path, values: dict[str, Any]) -> Callable[[], None]:
    """Write a file that is there whole or not at all, for its owner only; return what removes it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
    part.replace(path)
    return lambda: path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
