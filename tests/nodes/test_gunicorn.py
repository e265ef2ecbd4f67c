"""gunicorn forks: with and without ``--preload``, workers share nothing but the port, and each serves as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
"""


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
    tmp_path_factory: pytest.TempPathFactory,
    servers: Servers,
    outside: Outside,
    slapd: SlapdServer,
) -> Iterator[tuple[Node, dict[str, dict[str, str]]]]:
    """A node whose application has served requests before it forked, and good credentials by name."""
    worker_class, preload, kind = request.param
    stores = Stores(f"sqlite:///{tmp_path}/state.sqlite3", f"sqlite:///{tmp_path}/accounts.sqlite3", servers.redis.url)
    if kind != "sqlite":
        stores = servers.stores(kind, worker_class)
    portal = Deployment(
        tmp_path,
        stores,
        outside,
        nodes=1,
        tables=STAFF.format(port=slapd.port, base=PEOPLE, service=SERVICE, secret=SECRET),
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
    credentials = {
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
        yield node, credentials
    finally:
        node.kill()
        portal.accounts.close()


def test_workers_share_the_port_and_nothing_else(warmed: tuple[Node, dict[str, dict[str, str]]]) -> None:
    node, credentials = warmed
    told: dict[int, dict[str, object]] = {}

    def ask_everything() -> bool:
        for name, headers in credentials.items():
            with node.client() as client:
                found = client.ask("/process").json
                told.setdefault(found["pid"], found)
                answer = client.ask(ME, headers=headers)
                assert (answer.status, answer.json["user"]["userName"]) == (200, name)
        return len(told) == 2

    wait_until(ask_everything, "both workers answer")
    for _ in range(10):
        ask_everything()
    one, other = node.workers
    assert set(told) == {one, other}
    assert len({str(found["key"]) for found in told.values()}) == 2
    held = {process: set(open_files(process)) for process in (node.pid, one, other)}
    sockets = {process: {name for name in files if name.startswith("socket:")} for process, files in held.items()}
    shared = sockets[one] & sockets[other]
    # The port that they listen on.
    assert len(shared) == 1
    assert sockets[node.pid] & (sockets[one] | sockets[other]) == shared
    assert not [name for name in held[node.pid] if ".sqlite3" in name]
