"""uWSGI forks in C, where no hook of Python runs: each answer belongs to the user who sent the request."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.servers import missing

from .client import Answer
from .crowd import basic
from .deployment import PASSWORD, Deployment, Node, Outside, Servers, Stores, UwsgiNode, children
from .load import ME
from .warmed import WARM

USERS = 6
REQUESTS = 600
AT_ONCE = 24
PROCESSES = 4
PATIENCE = 60.0


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def portal(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Servers, outside: Outside
) -> Iterator[tuple[Node, list[str]]]:
    """uWSGI with four processes of an application that has used its stores before the fork, and the users' names."""
    if importlib.util.find_spec("pyuwsgi") is None:
        missing("pyuwsgi has no wheel for this platform, or is not installed: pip install pyuwsgi")
    kind = request.param
    sqlite = Stores(f"sqlite:///{tmp_path}/state.sqlite3", f"sqlite:///{tmp_path}/accounts.sqlite3")
    portal = Deployment(
        tmp_path,
        sqlite if kind == "sqlite" else servers.stores(kind, "uwsgi"),
        outside,
        nodes=1,
        application="tests.nodes.warmed:create_app()",
        server=UwsgiNode,
    )
    portal.make_tables()
    names = [f"user{number}.uwsgi.{kind}@acme.example" for number in range(USERS)]
    for name in names:
        portal.add(name)
    order = {"headers": [basic(name, PASSWORD) for name in names], "user_name": names[0], "password": PASSWORD}
    (node,) = portal.nodes
    # A busy machine must not look like a store that does not answer.
    node.tell_also({WARM: json.dumps(order), "FLASK_GENESYS_AUTH__STATE_TIMEOUT": "20"})
    try:
        node.start().wait()
        yield node, names
    finally:
        node.kill()
        portal.accounts.close()


def test_every_answer_is_the_asking_users_own(portal: tuple[Node, list[str]]) -> None:
    node, names = portal

    def log_in(name: str) -> dict[str, str]:
        with node.client() as client:
            assert client.log_in(name, PASSWORD).status == 303
            return client.cookies

    def ask_once(name: str, cookies: dict[str, str]) -> Answer:
        with node.client() as client:
            client.cookies = dict(cookies)
            return client.ask(ME, headers=None if cookies else basic(name, PASSWORD))

    def ask(name: str, cookies: dict[str, str]) -> str:
        """Ask by the session, or without cookies by Basic credentials; return what was answered."""
        deadline = time.monotonic() + PATIENCE
        while (answer := ask_once(name, cookies)).status == 503 and time.monotonic() < deadline:
            time.sleep(0.1)  # the worker is busy
        if answer.status != 200:
            return f"status {answer.status}"
        return "own" if answer.json["user"]["userName"] == name else "another user's"

    asked = [one for name in names for one in ((name, log_in(name)), (name, {}))]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = Counter(threads.map(ask, *zip(*islice(cycle(asked), REQUESTS), strict=True)))
    log = node.log.read_text("utf-8")
    assert answers == {"own": REQUESTS}, log
    assert "configuration_warning" not in log
    assert len(children(node.pid)) == PROCESSES
