"""Measure a bind by our directory beside bare ldap3 on an open connection, in one run on one slapd.

Run ``python -m benchmarks.ldap``; it starts slapd. CPU time of ours and of the server together (Linux); both take turns
in short rounds, and the results are ratios of medians. The server counts the binds.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ldap3
from flask import Flask

from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer, Ldap
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.web.runtime import runtime

BASE = "dc=acme,dc=example"
ADMIN = f"cn=admin,{BASE}"
ANN = f"uid=ann,{BASE}"
PASSWORD = "ann's password"  # noqa: S105 - of a server that lives for a moment

_CONFIGURATION = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database monitor
rootdn {ADMIN}
database mdb
suffix {BASE}
rootdn {ADMIN}
rootpw "{PASSWORD}"
directory FOLDER
dbnosync
index uid eq
"""


@dataclass(frozen=True)
class Target:
    """A target: the highest ratio of our cost and bare ldap3's."""

    ours: str
    peer: str
    at_most: float


TEMPLATE, SEARCH = "ours, by template", "ours, search then bind"
BARE, BARE_SEARCH = "bare ldap3, bind", "bare ldap3, search and bind"
TARGETS = (Target(TEMPLATE, BARE, 1.2), Target(SEARCH, BARE_SEARCH, 1.2))


@contextmanager
def slapd() -> Iterator[tuple[int, int]]:
    """Run a slapd that knows ann, and give its port and its process."""
    program = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin")
    if program is None:
        raise SystemExit("slapd is not installed: apt-get install slapd")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "slapd.conf"
        configuration.write_text(_CONFIGURATION.replace("FOLDER", folder))
        command = [program, "-f", str(configuration), "-h", f"ldap://127.0.0.1:{port}", "-d", "none"]
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 - nothing from outside
        try:
            _wait(port)
            _fill(port)
            yield port, running.pid
        finally:
            running.kill()
            running.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("slapd does not answer")


def connection(port: int, user: str = ADMIN) -> Any:
    """Return a connection of ldap3's own, bound, which requests only what is needed."""
    server = ldap3.Server("127.0.0.1", port, get_info=ldap3.NONE)
    return ldap3.Connection(server, user, PASSWORD, auto_bind=ldap3.AUTO_BIND_NO_TLS, check_names=False)


def _fill(port: int) -> None:
    admin = connection(port)
    admin.add(BASE, "domain", {"dc": "acme"})
    admin.add(ANN, "inetOrgPerson", {"cn": "Ann", "sn": "Ann", "userPassword": PASSWORD})
    assert admin.result["description"] == "success", admin.result
    admin.unbind()


def binds(port: int) -> int:
    """Return how many binds the server has answered; each call of this function adds one."""
    admin = connection(port)
    admin.search("cn=Bind,cn=Operations,cn=Monitor", "(objectClass=*)", attributes=["monitorOpCompleted"])
    found = int(admin.entries[0].monitorOpCompleted.value)
    admin.unbind()
    return found


@contextmanager
def contenders(port: int) -> Iterator[dict[str, Callable[[], bool]]]:
    """Yield the calls that take turns; each returns whether ann was authenticated."""
    servers = (LdapServer(False, "127.0.0.1", port),)
    template = Ldap(servers=servers, start_tls=False, user_dn=f"uid={{user}},{BASE}")
    search = Ldap(servers=servers, start_tls=False, base=BASE, bind_dn=ADMIN, bind_password=Secret(PASSWORD))
    by_template = LdapDirectory(ConfigurationServer(directory="ldap", ldap=template))
    by_search = LdapDirectory(ConfigurationServer(directory="ldap", ldap=search))
    people, service = connection(port, ANN), connection(port)

    def bare() -> bool:
        return bool(people.rebind(ANN, PASSWORD, read_server_info=False))

    def bare_search() -> bool:
        service.search(BASE, "(uid=ann)", attributes=["uid"], size_limit=2)
        return bool(people.rebind(service.response[0]["dn"], PASSWORD, read_server_info=False))

    yield {
        TEMPLATE: lambda: isinstance(by_template.verify("ann", PASSWORD), DirectoryEntry),
        BARE: bare,
        SEARCH: lambda: isinstance(by_search.verify("ann", PASSWORD), DirectoryEntry),
        BARE_SEARCH: bare_search,
    }
    for used in (people, service):
        used.unbind()
    by_template.close()
    by_search.close()


def cpu(server: int) -> float:
    """Return the seconds that this process and the server have computed so far."""
    threads = Path(f"/proc/{server}/task").glob("*/schedstat")
    return time.process_time() + sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def measure(entrants: dict[str, Callable[[], bool]], server: int, *, rounds: int, calls: int) -> dict[str, float]:
    """Return the median of each in microseconds; a failed login ends the benchmark."""
    spent: dict[str, list[float]] = {name: [] for name in entrants}
    for number in range(rounds + 1):
        for name, call in entrants.items():
            began = cpu(server)
            good = all(call() for _ in range(calls))
            seconds = cpu(server) - began
            if not good:
                raise SystemExit(f"{name}: ann was not let in")
            if number:  # the first round makes connections
                spent[name].append(seconds / calls * 1e6)
    return {name: statistics.median(times) for name, times in spent.items()}


def remembered(port: int, requests: int) -> int:
    """Return the number of binds that this many requests with cached credentials cost."""
    with tempfile.TemporaryDirectory() as folder:
        app = Flask("portal", instance_path=folder)
        app.secret_key = "k" * 32
        ldap = {"servers": [f"ldap://127.0.0.1:{port}"], "start_tls": False, "user_dn": f"uid={{user}},{BASE}"}
        step = {"directory": "ldap", "ldap": ldap, "reuse_verified_for": 3600}
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "contact_centers": {"acme": {"configuration_server": step}},
        }
        GenesysAuth(app)
        accounts = runtime(app).accounts
        assert isinstance(accounts, SqlAccounts)
        accounts.create_tables()
        accounts.add("acme", "ann")
        app.add_url_rule("/", "who", lambda: str(current_user.user_name))
        client = app.test_client()
        sent = {"Authorization": f"Basic {base64.b64encode(f'ann:{PASSWORD}'.encode()).decode()}"}
        assert client.get("/", headers=sent).text == "ann"
        before = binds(port)
        for _ in range(requests):
            assert client.get("/", headers=sent).text == "ann"
        cost = binds(port) - before - 1
        accounts.close()
        return cost


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure a bind by our directory beside bare ldap3.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=50, help="logins per contender and round")
    parser.add_argument("--requests", type=int, default=1000, help="with credentials found good before")
    parser.add_argument("--json", action="store_true", help="print JSON, and the table to standard error")
    chosen = parser.parse_args(arguments)
    with slapd() as (port, server):
        with contenders(port) as entrants:
            medians = measure(entrants, server, rounds=chosen.rounds, calls=chosen.calls)
        cost = remembered(port, chosen.requests)
    ratios = [(target, medians[target.ours] / medians[target.peer]) for target in TARGETS]
    met = all(ratio <= target.at_most for target, ratio in ratios) and not cost
    table = sys.stderr if chosen.json else sys.stdout
    for name, median in medians.items():
        print(f"{name:30} {median:9.1f} us", file=table)
    for target, ratio in ratios:
        verdict = "met" if ratio <= target.at_most else "MISSED"
        print(f"{target.ours:30} {ratio:5.2f} x {target.peer:30} target <= {target.at_most:.2f}  {verdict}", file=table)
    print(f"{chosen.requests} requests with credentials found good before: {cost} binds (target 0)", file=table)
    if chosen.json:
        rows = [{"ours": t.ours, "peer": t.peer, "ratio": round(r, 3), "target": t.at_most} for t, r in ratios]
        print(json.dumps({"microseconds": medians, "ratios": rows, "binds": cost}, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
