"""The deployment of ``deploy/`` on loopback: gunicorn nodes by its configuration, behind a real nginx with TLS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing import GenesysEmulator, LoopbackServer, SalesforceEmulator
from flask_genesys_auth.testing.identity_provider import DevelopmentIdentityProvider
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key
from flask_genesys_auth.testing.server import Emulator
from tests.certificates import make_certificate
from tests.servers import PostgresqlServer, RedisServer, free_port, require

from .client import Client

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PATIENCE = 90.0
"""Seconds that anything may take on a busy machine."""
PASSWORD = "what only this person knows"
CHEAP = PasswordSettings(memory_kib=8, iterations=1, concurrent_hashes=8)
"""As many hashes at once as a node has threads: on a busy machine no login waits for its turn."""
PROVIDER = "development"


def wait_until(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for something that comes true by itself."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def children(process: int) -> list[int]:
    """Return the process ids of its children."""
    try:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def open_files(process: int) -> list[str]:
    """Return what its descriptors stand for; a socket as ``socket:[12345]``, the same text in every process."""
    found = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            found.append(str(descriptor.readlink()))
    return found


FAULTS = ("refusing", "hanging", "dripping", "failing")


class _FleetingSalesforce(SalesforceEmulator):
    """Closes each connection, so that the next call finds out whether the server is still there."""

    def respond(self, request: Request) -> Response:
        answer = super().respond(request)
        answer.headers["Connection"] = "close"
        return answer


class CountingGenesys(GenesysEmulator):
    """Counts how often it was asked for each name, as a Configuration Server does that locks accounts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def respond(self, request: Request) -> Response:
        if request.method == "POST":
            name = request.form.get("username", "").rpartition("\\")[2]
            self.asked[unicodedata.normalize("NFC", name).casefold()] += 1
        return super().respond(request)


class Outside:
    """Whom the nodes ask: emulators of Salesforce and Genesys, and a development identity provider.

    :ivar guarded: the Genesys of a contact center that has the default ``max_failures``.
    :ivar broken: further Salesforces that tests do harm to, each of a contact center of its own.
    """

    def __init__(self) -> None:
        self.salesforce = SalesforceEmulator()
        self.broken = {fault: _FleetingSalesforce(f"00D00000000010{number}") for number, fault in enumerate(FAULTS, 1)}
        self._served: dict[str, LoopbackServer] = {}
        self.genesys = GenesysEmulator()
        self.guarded = CountingGenesys()
        self.provider = DevelopmentIdentityProvider(key=signing_key())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for emulator in (self.salesforce, self.genesys, self.guarded):
            self._stack.enter_context(emulator.serve())
        self._keep_connections(self.salesforce, self.genesys)
        for fault, emulator in self.broken.items():
            self._served[fault] = emulator.serve().start()
        # To a browser another site than 127.0.0.1.
        served = self._stack.enter_context(LoopbackServer(self.provider, host="localhost"))
        self.provider.url = served.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for served in self._served.values():
            served.stop()

    def _keep_connections(self, *emulators: Emulator) -> None:
        """Put nginx before them: they close each connection, which real services keep open."""
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="nginx-")))
        servers = []
        for emulator in emulators:
            port = free_port()
            servers.append(
                f"server {{ listen 127.0.0.1:{port}; keepalive_timeout 600s; location / {{ "
                f"proxy_pass {emulator.url}; proxy_set_header Host $http_host; }} }}\n"
            )
            emulator.url = f"http://127.0.0.1:{port}"
        front = Nginx(folder, "".join(servers))
        front.start()
        self._stack.callback(front.stop)
        for emulator in emulators:
            front.wait(lambda url=emulator.url: Client(url))  # type: ignore[misc]  # mypy infers no default of a lambda

    def break_down(self) -> None:
        """Let each of the broken Salesforces fail in its own way."""
        self._served["refusing"].stop()
        self.broken["hanging"].fail(hang=True)
        self.broken["dripping"].fail(body=b"{" + b" " * 10_000, drip=0.05)
        self.broken["failing"].fail(500, body="Internal Server Error")

    def repair(self) -> None:
        """Let all of them answer again."""
        port = self._served["refusing"].port
        self._served["refusing"] = self.broken["refusing"].serve(port=port).start()
        for emulator in self.broken.values():
            emulator.repair()

    def tables(self) -> str:
        """Return further contact centers: of own accounts alone, of the guarded Genesys, of the broken Salesforces."""
        guarded = self.guarded
        return f'''
[GENESYS_AUTH.contact_centers.plain]
domains = ["plain.example"]
realms = ["PLAIN"]

[GENESYS_AUTH.contact_centers.plain.web_services]

[GENESYS_AUTH.contact_centers.guarded]
domains = ["guarded.example"]
realms = ["GUARDED"]

[GENESYS_AUTH.contact_centers.guarded.configuration_server]
url = "{guarded.url}"
client_id = "{guarded.client_id}"
client_secret = "{guarded.client_secret}"
tenant = "{guarded.tenant}"
timeout = 30
''' + "".join(
            f'''
[GENESYS_AUTH.contact_centers.{fault}.salesforce]
organizations = ["{emulator.organization}"]
identity_hosts = ["{emulator.url}"]
reuse_verified_for = 0
'''
            for fault, emulator in self.broken.items()
        )


_made: list[SigningKey] = []


def signing_key() -> SigningKey:
    """Return one key for all that signs in this process: to make one takes a second."""
    if not _made:
        _made.append(generate_signing_key("tests of nodes"))
    return _made[0]


@dataclass(frozen=True)
class Stores:
    """Where state and accounts are."""

    state_url: str
    accounts_url: str
    throttle_url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment that tells a node."""
        told = {"STATE_URL": self.state_url, "ACCOUNTS_URL": self.accounts_url}
        if self.throttle_url:
            told["THROTTLE__STORAGE_URL"] = self.throttle_url
        return {f"FLASK_GENESYS_AUTH__{name}": value for name, value in told.items()}


@dataclass(frozen=True)
class Servers:
    """The servers of one deployment."""

    postgresql: PostgresqlServer
    redis: RedisServer

    def stores(self, kind: str, name: str = "portal") -> Stores:
        """Return a database of its own for this deployment, and for the state of that kind."""
        name = f"{name}_{kind}"
        with psycopg.connect(self.postgresql.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        database = self.postgresql.url.rpartition("/")[0] + f"/{name}"
        return Stores(database if kind == "postgresql" else self.redis.url, database)


class Node:
    """gunicorn by ``deploy/gunicorn.conf.py``, in a process group of its own.

    :param folder: takes its configuration and its log.
    :param environment: what it is told.
    :param application: as gunicorn names it.
    :param settings: of gunicorn, instead of those in the file.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        environment: Mapping[str, str],
        *,
        application: str = "sample_app:create_app()",
        **settings: Any,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._application = application
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._configuration = folder / f"{name}.conf.py"
        told = {"bind": f"127.0.0.1:{self.port}", **settings}
        own = "".join(f"{key} = {value!r}\n" for key, value in told.items())
        self._configuration.write_text((DEPLOY / "gunicorn.conf.py").read_text("utf-8") + own, encoding="utf-8")
        self._master: subprocess.Popen[bytes] | None = None

    def tell_also(self, environment: Mapping[str, str]) -> None:
        """Add to its environment, for when it is started next."""
        self._environment.update(environment)

    @property
    def pid(self) -> int:
        """Of the master."""
        assert self._master is not None
        return self._master.pid

    @property
    def workers(self) -> list[int]:
        """Process ids."""
        return children(self.pid)

    def start(self) -> Node:
        """Start it; :meth:`wait` waits until it answers."""
        with self.log.open("ab") as log:
            self._master = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "gunicorn", "--config", str(self._configuration), self._application]

    def client(self) -> Client:
        """Return a client that asks it as nginx would."""
        return Client(self.url, headers={"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"})

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self._answers, f"{self.log}\n{self.log.read_text('utf-8')}")

    def tell(self, number: int) -> None:
        """Tell the master."""
        os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it as an operator does, and wait until it has ended."""
        if self._master is None or self._master.poll() is not None:
            return
        self.tell(number)
        try:
            self._master.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """End master and workers at once, as a power cut does."""
        if self._master is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._master.wait(PATIENCE)

    def _answers(self) -> bool:
        assert self._master is not None
        assert self._master.poll() is None, self.log.read_text("utf-8")
        with Client(self.url, timeout=10) as client, suppress(OSError, HTTPException):
            return client.ask("/healthz").status == 200
        return False


class UwsgiNode(Node):
    """uWSGI by ``deploy/uwsgi.ini``, instead of gunicorn."""

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"),
            *("--ini", str(DEPLOY / "uwsgi.ini")),
            *("--http-socket", f"127.0.0.1:{self.port}", "--module", self._application),
        ]


class Nginx:
    """An nginx that runs what stands in its ``http`` block.

    :param folder: takes its files.
    """

    def __init__(self, folder: Path, http: str) -> None:
        self._program = require("nginx", "nginx")
        self._errors = folder / "error.log"
        self._configuration = folder / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        self._configuration.write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {self._errors};\n"
            "events { worker_connections 4096; }\n"
            f"http {{\naccess_log off;\n{paths}{http}\n}}\n",
            encoding="utf-8",
        )
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens before it says anything."""
        command = [self._program, "-c", str(self._configuration), "-e", str(self._errors)]
        self._running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.terminate()
            self._running.communicate(timeout=PATIENCE)

    def wait(self, client: Callable[[], Client]) -> None:
        """Wait until it answers, whatever it says."""

        def answers() -> bool:
            assert self._running is not None
            assert self._running.poll() is None, self._errors.read_text("utf-8") if self._errors.exists() else ""
            with client() as asking, suppress(OSError, HTTPException):
                return bool(asking.ask("/healthz").status)
            return False

        wait_until(answers, "nginx answers")


class Balancer(Nginx):
    """nginx by ``deploy/nginx/portal.conf.template``, with a certificate of its own.

    :param folder: takes its files.
    """

    def __init__(self, folder: Path, nodes: Sequence[Node]) -> None:
        self.port, self.http_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.log = folder / "access.log"
        pem = make_certificate(folder)
        self.ca_file = folder / "portal.crt"
        for copy in (self.ca_file, folder / "portal.key"):
            copy.write_text(pem.read_text("ascii"), encoding="ascii")
        template = (DEPLOY / "nginx" / "portal.conf.template").read_text("utf-8")
        told = {
            "NODE_1": f"127.0.0.1:{nodes[0].port}",
            "NODE_2": f"127.0.0.1:{nodes[-1].port}",
            "LISTEN_HTTP": f"127.0.0.1:{self.http_port}",
            "LISTEN_HTTPS": f"127.0.0.1:{self.port}",
            "SERVER_NAME": "127.0.0.1",
            "TLS_FOLDER": str(folder),
            "ACCESS_LOG": str(self.log),
        }
        for name, value in told.items():
            template = template.replace(f"${{{name}}}", value)
        super().__init__(folder, template)

    def lines(self) -> list[list[str]]:
        """Return the words of its log: address, method, path, status, the node's address and status, seconds."""
        return [line.replace('"', "").split() for line in self.log.read_text("utf-8").splitlines()]


class Deployment:
    """Two nodes behind nginx; a context.

    :param folder: takes everything's files.
    :param stores: where state and accounts are.
    :param outside: whom the nodes ask; it runs already.
    :param tables: TOML behind that of ``deploy/portal.toml`` and of the contact center's steps.
    :param max_failures: what may reach Configuration Server.
    :param application: as gunicorn and uWSGI name it.
    :param server: the kind of node.
    :param settings: of gunicorn, instead of those in ``deploy/gunicorn.conf.py``.
    """

    def __init__(
        self,
        folder: Path,
        stores: Stores,
        outside: Outside,
        *,
        tables: str = "",
        nodes: int = 2,
        max_failures: str = "1000 per minute",
        application: str = "sample_app:create_app()",
        server: type[Node] = Node,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.stores = stores
        self.outside = outside
        self._max_failures = max_failures
        configuration = folder / "portal.toml"
        environment = {
            "GENESYS_AUTH_CONFIG": str(configuration),
            "FLASK_SECRET_KEY": "a secret of these tests, and of nothing else",
            "FLASK_GENESYS_AUTH__DEFAULT_CONTACT_CENTER": "acme",
            # A machine that is busy with the tests is no store that hangs.
            "FLASK_GENESYS_AUTH__STATE_TIMEOUT": "5",
            "NO_PROXY": "*",
            **stores.environment,
        }
        self.nodes = [
            server(folder, f"node{number}", environment, application=application, **settings)
            for number in range(1, nodes + 1)
        ]
        self.nginx = Balancer(folder, self.nodes)
        self.url, self.ca_file = self.nginx.url, self.nginx.ca_file
        environment["FLASK_GENESYS_AUTH__PUBLIC_URL"] = self.url
        for node in self.nodes:
            node.tell_also(environment)
        own = (DEPLOY / "portal.toml").read_text("utf-8")
        configuration.write_text(own + self._steps() + tables, encoding="utf-8")
        self.accounts = SqlAccounts(stores.accounts_url, timeout=30.0)
        self._hash = PasswordHasher(CHEAP).hash(PASSWORD)

    def __enter__(self) -> Self:
        try:
            self.make_tables()
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait()
            self.nginx.start()
            self.nginx.wait(self.client)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def add(self, user_name: str, *, contact_center: str = "acme", **more: Any) -> str:
        """Add an account whose password is ``PASSWORD``; return its id."""
        more = {"roles": ["ROLE_AGENT"], "password_hash": self._hash, **more}
        return self.accounts.add(contact_center, user_name, **more).id

    def client(self, **more: Any) -> Client:
        """Return a client that comes by nginx."""
        return Client(self.url, ca_file=self.ca_file, **more)

    def logs(self) -> str:
        """Return what all nodes have logged."""
        return "\n".join(node.log.read_text("utf-8") for node in self.nodes)

    def _stop(self) -> None:
        self.nginx.stop()
        for node in self.nodes:
            node.kill()
        self.accounts.close()

    def make_tables(self) -> None:
        """Do what ``init-db`` does, without a process of its own."""
        self.accounts.create_tables()
        if self.stores.state_url.startswith("postgresql"):
            state = SqlState(self.stores.state_url, "portal", 30.0)
            state.create_tables()
            state.close()

    def _steps(self) -> str:
        outside, key = self.outside, signing_key()
        outside.provider.write_metadata(self.folder / "provider.xml")
        (self.folder / "own.key").write_text(key.private_pem, encoding="ascii")
        (self.folder / "own.crt").write_text(key.certificate_pem, encoding="ascii")
        return f"""
[GENESYS_AUTH.passwords]
memory_kib = {CHEAP.memory_kib}
iterations = {CHEAP.iterations}
concurrent_hashes = {CHEAP.concurrent_hashes}

[GENESYS_AUTH.contact_centers.acme.salesforce]
organizations = ["{outside.salesforce.organization}"]
identity_hosts = ["{outside.salesforce.url}"]
timeout = 30

[GENESYS_AUTH.contact_centers.acme.configuration_server]
url = "{outside.genesys.url}"
client_id = "{outside.genesys.client_id}"
client_secret = "{outside.genesys.client_secret}"
tenant = "{outside.genesys.tenant}"
max_failures = "{self._max_failures}"
timeout = 30

[GENESYS_AUTH.contact_centers.acme.saml]
signing_key = {{ file = "own.key" }}
signing_certificate = {{ file = "own.crt" }}

[GENESYS_AUTH.contact_centers.acme.saml.identity_providers.{PROVIDER}]
metadata = "provider.xml"
"""
