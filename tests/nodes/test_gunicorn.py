"""gunicorn forks: with and without ``--preload``, workers share nothing but the port, and each serves as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slapd import PEOPLE, SECRET, SERVICE, SlapdServer, slapd

from .crowd import basic
from .deployment import PASSWORD, Deployment, Node, Outside, Servers, Stores, open_files, wait_until
from .load import ME
from .warmed import WARM

__all__ = ["slapd"]

NAMES = ("sally", "carl", "wendy")
STAFF = """
[GENESYS_AUTH.contact_centers.staff]
domains = ["staff.example"]

[GENESYS_AUTH.contact_centers.staff.configuration_server]
directory = "ldap"

[GENESYS_AUTH.contact_centers.staff.configuration_server.ldap]
servers = ["ldap://127.0.0.1:{port}"]
start_tls = false
base = "{base}"
bind_dn = "{service}"
bind_password = "{secret}"

[GENESYS_AUTH.contact_centers.counted]
domains = ["counted.example"]

[GENESYS_AUTH.contact_centers.counted.configuration_server]
url = "{genesys.url}"
client_id = "{genesys.client_id}"
client_secret = "{genesys.client_secret}"
tenant = "{genesys.tenant}"
reuse_verified_for = 86400
"""


@dataclass(frozen=True)
class Warmed:
    """A node whose application has served requests before it forked.

    :param credentials: good ones, by user name.
    :param counted: the user whose verifications are counted.
    :param preload: whether the master has loaded the application, and served requests, before it forked.
    """

    node: Node
    credentials: dict[str, dict[str, str]]
    counted: str
    preload: bool

    @property
    def verifications(self) -> int:
        """How often the user's password is verified until each process remembers it."""
        return 3 if self.preload else 2


@pytest.fixture(
    params=[
        ("gthread", True, "postgresql"),
        ("gthread", True, "sqlite"),
        ("gthread", False, "redis"),
        ("sync", True, "redis"),
        ("sync", False, "sqlite"),
    ],
    ids=lambda param: f"{param[0]}-{'preload' if param[1] else 'no preload'}-{param[2]}",
)
def warmed(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    servers: Servers,
    outside: Outside,
    slapd: SlapdServer,
) -> Iterator[Warmed]:
    worker_class, preload, kind = request.param
    stores = Stores(f"sqlite:///{tmp_path}/state.sqlite3", f"sqlite:///{tmp_path}/accounts.sqlite3", servers.redis.url)
    if kind != "sqlite":
        stores = servers.stores(kind, worker_class)
    portal = Deployment(
        tmp_path,
        stores,
        outside,
        nodes=1,
        tables=STAFF.format(port=slapd.port, base=PEOPLE, service=SERVICE, secret=SECRET, genesys=outside.guarded),
        application="tests.nodes.warmed:create_app()",
        worker_class=worker_class,
        preload_app=preload,
    )
    portal.make_tables()
    sally, carl, wendy = (f"{name}@{kind}.{worker_class}.acme.example" for name in NAMES)
    for name in (sally, carl, wendy):
        portal.add(name)
    lena = f"lena.{kind}.{worker_class}@staff.example"
    slapd.add_person(lena, PASSWORD)
    portal.add(lena, contact_center="staff", password_hash=None)
    gina = f"gina.{kind}.{worker_class}@counted.example"
    portal.add(gina, contact_center="counted", password_hash=None)
    credentials = {
        gina: outside.guarded.add_user(gina, PASSWORD),
        lena: basic(lena, PASSWORD),
        sally: outside.salesforce.add_user(sally),
        carl: outside.genesys.add_user(carl, PASSWORD),
        wendy: basic(wendy, PASSWORD),
    }
    order = {"headers": [*credentials.values()], "user_name": wendy, "password": PASSWORD}
    (node,) = portal.nodes
    node.tell_also({WARM: json.dumps(order)})
    try:
        node.start().wait()
        yield Warmed(node, credentials, gina, preload)
    finally:
        node.kill()
        portal.accounts.close()


def test_workers_share_the_port_and_nothing_else(warmed: Warmed, outside: Outside) -> None:
    node, seen = warmed.node, set()

    def ask_everything() -> None:
        for name, headers in warmed.credentials.items():
            with node.client() as client:
                seen.add(client.ask("/process").json["pid"])
                answer = client.ask(ME, headers=headers)
                assert (answer.status, answer.json["user"]["userName"]) == (200, name)

    def each_worker_remembers() -> bool:
        ask_everything()
        return len(seen) == 2 and outside.guarded.asked[warmed.counted] == warmed.verifications

    wait_until(each_worker_remembers, "each worker has verified the password itself")
    for _ in range(10):
        ask_everything()
    one, other = node.workers
    assert seen == {one, other}
    assert outside.guarded.asked[warmed.counted] == warmed.verifications
    held = {process: set(open_files(process)) for process in (node.pid, one, other)}
    sockets = {process: {name for name in files if name.startswith("socket:")} for process, files in held.items()}
    # The port that they listen on; and what the master had opened before it forked, which no worker uses or closes.
    shared = sockets[one] & sockets[other]
    assert len(shared) == 1 or warmed.preload
    assert shared <= sockets[node.pid]
    assert sockets[node.pid] & (sockets[one] | sockets[other]) == shared
    assert warmed.preload or not [name for name in held[node.pid] if ".sqlite3" in name]
