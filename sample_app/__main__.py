"""``python -m sample_app``: run the sample application, as a demonstration with emulators or with a configuration."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit status.

    :returns: 0 after a clean stop, 1 if a port or file cannot be opened, 2 if the configuration is invalid.
    """
    with _signals() as signals:
        # Slow imports follow here, so that a Ctrl-C during them is noticed.
        from flask_genesys_auth.errors import ConfigurationError, GenesysAuthError

        from .server import CannotListen

        options = _read_arguments(arguments)
        try:
            with ExitStack() as stack:
                _start(options, stack)
                signals.recv(1)
        except ConfigurationError as error:
            return _print_error(error, 2)
        except (CannotListen, GenesysAuthError, OSError) as error:
            return _print_error(error, 1)
    return 0


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yield a socket that receives one byte for each Ctrl-C and SIGTERM.

    Only ``signal.set_wakeup_fd`` loses no signal: a signal just before a blocking call would not wake it.
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


def _print_error(error: Exception, status: int) -> int:
    sys.stderr.write(f"sample_app: {error}\n")
    return status


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    from .server import is_loopback

    parser = argparse.ArgumentParser(prog="python -m sample_app", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; default: run the demonstration")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=5000, help="0: a free port (default: %(default)s)")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="a JSON file, written when all ports answer")
    options = parser.parse_args(arguments)
    if options.config is None and not is_loopback(options.host):
        parser.error("the demonstration runs on loopback only; to listen elsewhere, give a configuration with --config")
    return options


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: must be a number from 0 to 65535")
    return int(text)


def _start(options: argparse.Namespace, stack: ExitStack) -> None:
    from .application import build_app, read_configuration
    from .demo import Demonstration
    from .server import Server, wait_until_answering

    write_ready = _open_ready_file(options.ready_file, stack) if options.ready_file is not None else None
    server = stack.enter_context(Server(options.host, options.port))
    if options.config is None:
        demonstration = stack.enter_context(Demonstration(server.url))
        ready, lines = demonstration.describe(), demonstration.lines()
        app = build_app(demonstration.configuration, demonstration.folder)
    else:
        path = options.config.absolute()
        ready = {"addresses": {"application": server.url}, "configuration": str(path), "credentials": {}, "headers": {}}
        lines = [f"The sample application is running at {server.url}/ with the configuration {path}."]
        app = build_app(read_configuration(path), path.parent)
    server.serve(app)
    for address in ready["addresses"].values():
        wait_until_answering(address)
    sys.stdout.write("\n".join([*lines, "Ctrl-C stops it.\n"]))
    sys.stdout.flush()
    if write_ready is not None:
        write_ready({**ready, "pid": os.getpid()})


def _open_ready_file(path: Path, stack: ExitStack) -> Callable[[dict[str, Any]], None]:
    """Open a file for its owner only; return a function that writes it atomically.

    :param stack: removes the file when it closes.
    :raises OSError: if the file cannot be created.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror})") from error
    stack.callback(part.unlink, missing_ok=True)
    file = stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8"))

    def write(values: dict[str, Any]) -> None:
        json.dump(values, file, indent=2)
        file.close()
        part.replace(path)
        stack.callback(path.unlink, missing_ok=True)

    return write


if __name__ == "__main__":
    sys.exit(main())
