"""The processes of ``benchmarks/load.py``: gunicorn around each application, and the client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Flask

from benchmarks.load_apps import PASSWORD, PLAN, USER
from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import SalesforceEmulator
from flask_genesys_auth.web.runtime import runtime
from tests.servers import free_port

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parent.parent
WORKERS = 2
COLLEAGUES = tuple(f"user{number}@acme.example" for number in range(16))


@dataclass(frozen=True)
class Users:
    """Connections of one kind in a round; see :class:`benchmarks.load_client.Group`."""

    name: str
    requests: tuple[str, ...]
    connections: int
    think: float = 0.0
    body: str = USER


class Node:
    """gunicorn with threads around one application.

    :param factory: a function of ``benchmarks.load_apps``.
    :param bytecode: a folder for compiled modules. Workers find them there, as after an installation by pip, and spend
        no memory on compiling.
    :param plan: our configuration, for ``ours``.
    :param servers: environment variables that name the peers' servers.
    """

    def __init__(
        self,
        factory: str,
        *,
        bytecode: Path,
        plan: Mapping[str, Any] | None = None,
        servers: Mapping[str, str] | None = None,
        threads: int = 4,
    ) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "gunicorn", f"benchmarks.load_apps:{factory}()"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS), "--threads", str(threads)]
        command += ["--worker-class", "gthread", "--keep-alive", "60", "--log-level", "error", "--timeout", "120"]
        environment = {**os.environ, **(servers or {}), PLAN: json.dumps(plan or {})}
        environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        imports = f"import gunicorn.workers.gthread; from benchmarks import load_apps; load_apps.{factory}()"
        subprocess.run([sys.executable, "-c", imports], cwd=ROOT, env=environment, check=True)  # noqa: S603 - our own
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the node
        self._master = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self._log)  # noqa: S603 - our own
        self._wait()

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self._master.pid}/task/{self._master.pid}/children").read_text()
        return [int(one) for one in children.split()]

    def resident(self, field: str = "VmRSS") -> int:
        """Return the memory of the largest worker in bytes; ``VmHWM`` is the most it ever had."""
        found = []
        for worker in self.workers:
            status = Path(f"/proc/{worker}/status").read_text()
            line = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
            assert line is not None
            found.append(int(line[1]) * 1024)
        return max(found)

    def session(self) -> str:
        """Log in and return the cookie."""
        form = urlencode({"name": USER, "password": PASSWORD})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", "/log-in", form, headers)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the login failed: {answer.status} {body[:200]!r}")
        return answer.headers["Set-Cookie"].partition(";")[0]

    def stop(self) -> None:
        """Stop it and all its workers."""
        self._master.terminate()
        try:
            self._master.wait(30)
        except subprocess.TimeoutExpired:
            self._master.kill()
        self._log.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._master.poll() is not None:
                self._log.seek(0)
                raise SystemExit(f"gunicorn did not start: {self._log.read().decode()[-2000:]}")
            with suppress(OSError), closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
                connection.request("GET", "/nothing")
                connection.getresponse().read()
                if len(self.workers) == WORKERS:
                    return
            time.sleep(0.05)
        raise SystemExit("gunicorn does not answer")


class Client:
    """The closed-loop client in its process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_client"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def round(self, node: Node, seconds: float, *users: Users) -> dict[str, dict[str, Any]]:
        """Send these users' requests to a node, and return the results of each kind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"port": node.port, "seconds": seconds, "groups": [asdict(group) for group in users]}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the client ended")
        found: dict[str, dict[str, Any]] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def request(**headers: str) -> str:
    """Return a whole GET request of the one page."""
    lines = ["GET / HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines) + "\r\n\r\n"


def basic(user: str = USER) -> str:
    """Return a request with Basic credentials."""
    return request(Authorization="Basic " + b64encode(f"{user}:{PASSWORD}".encode()).decode())


@contextmanager
def nodes() -> Iterator[Any]:
    """Yield a function that starts a :class:`Node`; stop all nodes at the end."""
    with ExitStack() as stack:
        bytecode = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bytecode-")))

        def start(factory: str, **named: Any) -> Node:
            node = Node(factory, bytecode=bytecode, **named)
            stack.callback(node.stop)
            return node

        yield start


def remembering(salesforce: SalesforceEmulator) -> dict[str, Any]:
    """Return ``[GENESYS_AUTH]`` with one contact center, where valid credentials are cached for an hour."""
    return {
        "passwords": {"reuse_verified_for": 3600},
        "contact_centers": {
            "acme": {
                "web_services": {},
                "salesforce": {
                    "organizations": [salesforce.organization],
                    "identity_hosts": [salesforce.url],
                    "reuse_verified_for": 3600,
                },
            }
        },
    }


def plan(folder: Path, salesforce: SalesforceEmulator, **changes: Any) -> dict[str, Any]:
    """Return a configuration of ours and make its tables and its accounts.

    :param folder: an empty one, for SQLite's files.
    :param changes: keys of ``[GENESYS_AUTH]``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"base_path": str(folder), **remembering(salesforce), **changes}
    app = Flask("ours")
    app.secret_key = "only to make the tables"  # noqa: S105
    app.config["GENESYS_AUTH"] = json.loads(json.dumps(wanted))
    GenesysAuth(app)
    with app.app_context():
        here = runtime()
        store = here.accounts
        assert isinstance(store, SqlAccounts)
        store.create_tables()
        create = getattr(here.state, "create_tables", None)
        if create is not None:
            create()
        if not list(store.list("acme")):
            stored = here.hasher.hash(PASSWORD)
            for name in (USER, *COLLEAGUES):
                store.set_password(store.add("acme", name).id, stored)
        here.state.close()
    return wanted
