"""Pass on a connection with the latency of a network: ``python -m benchmarks.latency HOST PORT MILLISECONDS``.

Listens on a free port of 127.0.0.1, prints the port, and passes on the data of both sides, each direction after half of
the milliseconds. It runs in its own process and therefore shares no interpreter lock with the measured code.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def pass_on(source: socket.socket, target: socket.socket, delay: float) -> None:
    """Pass on the data of one side until it closes.

    :param delay: seconds before each piece.
    """
    with suppress(OSError):
        while data := source.recv(65536):
            time.sleep(delay)
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def serve(host: str, port: int, milliseconds: float) -> None:
    """Accept connections until the process is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((host, port))
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                arguments = (source, target, milliseconds / 2000)
                threading.Thread(target=pass_on, args=arguments, daemon=True).start()


@contextmanager
def delayed(port: int, milliseconds: float) -> Iterator[int]:
    """Run such a way to a port of 127.0.0.1, and yield its own port."""
    command = [sys.executable, "-m", "benchmarks.latency", "127.0.0.1", str(port), str(milliseconds)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
