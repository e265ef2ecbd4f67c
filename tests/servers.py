"""Real servers for tests, on loopback, in temporary folders; a test without its server is skipped and says why."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
import redis


def require(program: str, package: str) -> str:
    """Return where a program is; without it the test is skipped (failed, with REQUIRE_SERVERS set).

    :param package: Debian's name of the package that has it.
    """
    if os.environ.get("WITHOUT_SERVERS"):
        pytest.fail(f"a quick test runs {program}: let tests/conftest.py mark it as one that needs a server")
    # Debian keeps daemons out of the PATH of those who are not root.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin") or _postgresql_program(program)
    if found is None:
        missing(f"{program} is not installed: apt-get install {package}")
    return found


def missing(finding: str) -> NoReturn:
    """Skip the test, or fail it with REQUIRE_SERVERS set."""
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(finding)
    pytest.skip(finding)


def free_port() -> int:
    """Return a port where no server listens; below those that outgoing connections take, so that it stays free."""
    while True:
        port = 20_000 + secrets.randbelow(12_768)  # no seed makes two workers choose alike
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for_server(server: subprocess.Popen[bytes], port: int, *, log: Path | None = None) -> None:
    """Wait until a server listens on this port of 127.0.0.1; fail if the server exits or takes too long.

    :param log: what it writes, shown in the failure.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"{server.args!r} does not answer: {log.read_text() if log else ''}")


def _postgresql_program(program: str) -> str | None:
    # Debian keeps PostgreSQL's programs out of PATH, in a folder for each version.
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return str(found[-1]) if found else None


class PostgresqlServer:
    """A PostgreSQL of its own, with one empty database.

    :param memory: its ``shared_buffers``.
    """

    def __init__(self, folder: Path, *, memory: str = "128MB") -> None:
        self._memory = memory
        initdb, self._pg_ctl = require("initdb", "postgresql"), require("pg_ctl", "postgresql")
        # PostgreSQL refuses to run as root, and must be able to walk down to its folder.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(folder, "postgres")
        self._folder, self._data = folder, folder / "data"
        self._port = free_port()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"
        trust = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run(initdb, "-D", str(self._data), *trust)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._folder}"
        options += f" -c fsync=off -c shared_buffers={self._memory}"
        self._control("-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it without waiting for its clients, as a crash does."""
        if (self._data / "postmaster.pid").exists():
            self._control("-m", "immediate", "stop")

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it and all its processes stand still: what is sent to it is taken, and nothing is answered."""
        stopped: list[int] = []
        try:
            os.kill(self._pid, signal.SIGSTOP)
            stopped.append(self._pid)
            # Now that no more are started.
            for process in self._children:
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
            yield
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    @property
    def _children(self) -> list[int]:
        ids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [process for process in ids if _parent(process) == self._pid]

    def _control(self, *command: str) -> None:
        self._run(self._pg_ctl, "-D", str(self._data), "-w", *command)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as_user, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self._folder, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()


def _parent(process: int) -> int:
    try:
        # After the name, which may have blanks and brackets in it.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@contextmanager
def running_postgresql() -> Iterator[PostgresqlServer]:
    """Run a PostgreSQL meanwhile."""
    # Not pytest's own folders, which only their owner may walk through.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        server = PostgresqlServer(Path(name))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The SQLAlchemy address of an empty PostgreSQL database."""
    with running_postgresql() as server:
        yield server.url


@pytest.fixture
def own_postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL for a test that does it harm."""
    with running_postgresql() as server:
        yield server


class RedisServer:
    """A Redis on a port and a Unix socket of its own.

    :param persistent: what it has confirmed is in its file (``appendonly``); else it keeps nothing.
    :param options: of its command line.
    """

    def __init__(self, folder: Path, *, persistent: bool = False, options: Sequence[str] = ()) -> None:
        self._program = require("redis-server", "redis-server")
        self._folder = folder
        self._options = ["--appendonly", "yes" if persistent else "no", *options]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # The path of a Unix socket has at most 107 characters, and pytest's folders are deep.
        self._socket = Path(tempfile.gettempdir()) / f"redis-{self.port}.sock"
        self.socket_url = f"unix://{self._socket}?db=0"
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self._socket), "--save", ""]
        self._running = subprocess.Popen(
            [self._program, *options, *self._options, "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_server(self._running, self.port)

    def stop(self) -> None:
        """Kill it, as a bad day does."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(30)
            self._running = None
            self._socket.unlink(missing_ok=True)

    def hang(self) -> None:
        """Stop it in its tracks: it takes connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after :meth:`hang`."""
        os.kill(self.pid, signal.SIGCONT)


class SentinelServers:
    """A Redis master with one replica, and Sentinels that make the replica the master when it is down.

    :param sentinels: how many.
    :param down_after: seconds without an answer after which the master counts as down.
    """

    SERVICE = "portal"

    def __init__(self, folder: Path, *, sentinels: int = 1, down_after: float = 60.0) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self.master = RedisServer(_made(folder / "master"), options=["--repl-diskless-sync-delay", "0"])
        replica_of = ["--replicaof", "127.0.0.1", str(self.master.port)]
        self.replica = RedisServer(_made(folder / "replica"), options=replica_of)
        ports = [self._start_sentinel(_made(folder / str(n)), sentinels // 2 + 1, down_after) for n in range(sentinels)]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"redis+sentinel://{hosts}/{self.SERVICE}/0"
        for port in ports:
            self._wait_until_ready(port, sentinels)

    def stop(self) -> None:
        """Kill all of them."""
        for process in self._running:
            process.kill()
            process.wait(30)
        self.master.stop()
        self.replica.stop()

    def _start_sentinel(self, folder: Path, quorum: int, down_after: float) -> int:
        port, config, name = free_port(), folder / "sentinel.conf", self.SERVICE
        config.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {self.master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {name} {round(down_after * 1000)}\n"
            f"sentinel failover-timeout {name} 10000\n"
        )
        command = [require("redis-server", "redis-server"), str(config), "--sentinel"]
        self._running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for_server(self._running[-1], port)
        return port

    def _wait_until_ready(self, port: int, sentinels: int) -> None:
        deadline = time.monotonic() + 120
        with redis.Redis(port=port) as sentinel:
            while time.monotonic() < deadline:
                state = sentinel.sentinel_master(self.SERVICE)
                replicas = sentinel.sentinel_slaves(self.SERVICE)
                known = len(replicas) == 1 and replicas[0]["flags"] == "slave"
                if known and state["num-other-sentinels"] == sentinels - 1:
                    return
                time.sleep(0.1)
        raise AssertionError(f"Sentinel does not know the replica and the other Sentinels: {state} {replicas}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def sentinel_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServers]:
    """A Redis behind Sentinel for all tests that only use it."""
    servers = SentinelServers(tmp_path_factory.mktemp("sentinel"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests that only use it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for a test that does it harm."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()
