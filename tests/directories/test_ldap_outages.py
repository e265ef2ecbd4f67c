"""Outages of a directory: stopped, hung and restarted servers; no login gets another user's result."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_genesys_auth.chain.outcomes import Reason, Rejected, Unavailable
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.settings import LdapAttributes
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.directories.ldap.server import LONGEST_IDLE, LONGEST_LIFE, DirectoryServer, Pool
from flask_genesys_auth.upstream import Deadline, Guard, Passage, Upstreams, Visit
from flask_genesys_auth.upstream.breaker import FAILURES, LONGEST_PAUSE
from tests.slapd import PASSWORD, PEOPLE, SlapdServer
from tests.upstreams.test_guard import Clock

from .scripted import BIND, SEARCH, Asked, Say, ScriptedServer, finds_ann

ANN = DirectoryEntry({"username": "ann"})
LONG = 60.0


def reason(found: object) -> Reason:
    assert isinstance(found, (Rejected, Unavailable)), found
    return found.reason


def good(asked: Asked) -> bytes:
    return asked.result(0)


@pytest.fixture
def silent() -> Iterator[ScriptedServer]:
    """Takes everything and says nothing."""
    with ScriptedServer(lambda asked: b"") as server:
        yield server


@pytest.fixture
def well() -> Iterator[ScriptedServer]:
    with ScriptedServer(finds_ann(good)) as server:
        yield server


def test_hung_server_recovers_by_itself(own_slapd: SlapdServer) -> None:
    own_slapd.add_person("ann")
    guard = Guard(clock=(clock := Clock()))
    hasty = LdapDirectory(own_slapd.settings(timeout=1), guard)
    patient = LdapDirectory(own_slapd.settings(timeout=LONG), guard)
    assert patient.verify("ann", PASSWORD) == ANN
    with own_slapd.hanging():
        outcomes = [hasty.verify("ann", PASSWORD) for _ in range(FAILURES)]
        assert {reason(found) for found in outcomes} <= {Reason.TIMED_OUT}
        before = hasty.verify("ann", PASSWORD)
        assert isinstance(before, Unavailable)
        assert before.reason is Reason.CIRCUIT_OPEN
        assert before.uncounted
    clock.now += 2 * LONGEST_PAUSE
    assert patient.verify("ann", PASSWORD) == ANN
    assert patient.verify("ann", PASSWORD) == ANN
    hasty.close()
    patient.close()


def test_restarted_server_recovers_by_itself(own_slapd: SlapdServer) -> None:
    own_slapd.add_person("ann")
    directory = LdapDirectory(own_slapd.settings())
    assert directory.verify("ann", PASSWORD) == ANN
    own_slapd.stop()
    found = directory.verify("ann", PASSWORD)
    assert reason(found) is Reason.UNREACHABLE
    own_slapd.start()
    assert directory.verify("ann", PASSWORD) == ANN
    directory.close()


@pytest.mark.parametrize("stage", ["connecting", "searching", "binding"])
def test_next_server_is_asked_after_a_timeout(well: ScriptedServer, stage: str) -> None:
    scripts: dict[str, Say] = {"searching": lambda asked: b"", "binding": finds_ann(lambda asked: b"")}
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        # No server accepts from this queue, so it is soon full and further connections wait.
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with ScriptedServer(scripts.get(stage, good)) as first:
            settings = well.settings(timeout=4)
            table = settings.ldap
            assert table is not None
            wanted = port if stage == "connecting" else first.port
            servers = (LdapServer(False, "127.0.0.1", wanted), *table.servers)
            directory = LdapDirectory(well.settings(timeout=4, servers=servers))
            assert directory.verify("ann", PASSWORD) == ANN
        for one in waiting:
            one.close()


@pytest.mark.parametrize("code", [51, 52, 53, 80])
def test_next_server_is_asked_after_a_failure(well: ScriptedServer, code: int) -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(code))) as first:
        directory = LdapDirectory(first.settings(well.port))
        assert directory.verify("ann", PASSWORD) == ANN


def test_wrong_password_tries_no_other_server(well: ScriptedServer) -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(49))) as first:
        directory = LdapDirectory(first.settings(well.port))
        assert reason(directory.verify("ann", "wrong")) is Reason.BAD_CREDENTIALS
    assert well.asked == []


def test_after_its_failures_a_dead_server_costs_nothing(well: ScriptedServer) -> None:
    with ScriptedServer(lambda asked: None) as dead:
        directory = LdapDirectory(dead.settings(well.port, timeout=LONG))
        for _ in range(FAILURES + 20):
            assert directory.verify("ann", PASSWORD) == ANN
        assert len(dead.asked) == FAILURES
        directory.close()


def test_one_call_tries_a_dead_server() -> None:
    clock = Clock()
    held = threading.Event()

    def say(asked: Asked) -> bytes:
        if down:
            return asked.result(52)
        assert held.wait(LONG)
        return finds_ann(good)(asked) or b""

    down = True
    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.settings(timeout=LONG), Guard(clock=clock))
        for _ in range(FAILURES):
            assert reason(directory.verify("ann", PASSWORD)) is Reason.SERVER_ERROR
        assert reason(directory.verify("ann", PASSWORD)) is Reason.CIRCUIT_OPEN
        down = False
        clock.now += 2 * LONGEST_PAUSE
        server.seen.clear()
        outcomes: queue.Queue[object] = queue.Queue()
        probe = threading.Thread(target=lambda: outcomes.put(directory.verify("ann", PASSWORD)))
        probe.start()
        assert server.seen.wait(LONG)
        assert reason(directory.verify("ann", PASSWORD)) is Reason.CIRCUIT_OPEN
        held.set()
        assert outcomes.get(timeout=LONG) == ANN
        probe.join(LONG)
        assert directory.verify("ann", PASSWORD) == ANN


def test_hung_server_holds_a_bounded_number_of_calls() -> None:
    held = threading.Event()

    def say(asked: Asked) -> bytes:
        assert held.wait(LONG)
        return finds_ann(good)(asked) or b""

    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.settings(timeout=LONG), Guard(concurrent=3))
        outcomes: queue.Queue[object] = queue.Queue()
        threads = [threading.Thread(target=lambda: outcomes.put(directory.verify("ann", PASSWORD))) for _ in range(10)]
        for thread in threads:
            thread.start()
        busy = [outcomes.get(timeout=LONG) for _ in range(7)]
        assert {reason(found) for found in busy} == {Reason.UPSTREAM_BUSY}
        assert all(isinstance(found, Unavailable) and found.uncounted for found in busy)
        held.set()
        assert [outcomes.get(timeout=LONG) for _ in range(3)] == [ANN] * 3
        for thread in threads:
            thread.join(LONG)


@pytest.mark.parametrize("code", [51, 53, 3, 11])
def test_busy_server_does_not_open_the_circuit(code: int) -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(code))) as server:
        directory = LdapDirectory(server.settings())
        for _ in range(3 * FAILURES):
            assert reason(directory.verify("ann", PASSWORD)) is Reason.SERVER_ERROR


def test_slow_answer_ends_at_the_deadline() -> None:
    def drip(asked: Asked) -> bytes:
        never.wait(0.05)
        return asked.entry("uid=ann,ou=people", uid="ann")[:1] if asked.operation == SEARCH else b""

    never = threading.Event()
    with ScriptedServer(drip) as server:
        found = LdapDirectory(server.settings(timeout=1)).verify("ann", PASSWORD)
    assert reason(found) is Reason.TIMED_OUT


def test_outcome_names_every_silent_server(silent: ScriptedServer) -> None:
    with ScriptedServer(finds_ann(lambda asked: None)) as breaks:
        directory = LdapDirectory(breaks.settings(silent.port, timeout=2))
        found = directory.verify("ann", PASSWORD)
    assert isinstance(found, Unavailable)
    assert found.reason is Reason.SERVER_ERROR  # the last word of one that may have counted a failure
    assert f":{breaks.port}: " in found.detail
    assert f":{silent.port}: " in found.detail
    assert not found.uncounted  # the first may have counted the bind that it did not answer


@pytest.mark.parametrize("in_time", [True, False])
def test_spent_deadline_times_out(well: ScriptedServer, in_time: bool) -> None:
    found = LdapDirectory(well.settings(timeout=LONG if in_time else 0)).verify("ann", PASSWORD)
    if in_time:
        assert found == ANN
        return
    assert isinstance(found, Unavailable)
    assert (found.reason, found.uncounted) == (Reason.TIMED_OUT, True)
    assert well.connections == 0


def test_contact_centers_with_same_settings_share_the_limit(well: ScriptedServer) -> None:
    upstreams = Upstreams()
    settings = well.settings()
    assert upstreams.guard(settings) is upstreams.guard(well.settings())
    assert upstreams.guard(settings) is not upstreams.guard(well.settings(timeout=7))
    url = f"http://127.0.0.1:{well.port}"
    bound = [upstreams.guard(settings).enter(url) for _ in range(settings.concurrent_calls)]
    refused = upstreams.of(settings).visit(url, Deadline(0.01))
    assert reason(refused) is Reason.UPSTREAM_BUSY
    for passage in bound:
        assert isinstance(passage, Passage)
        with passage:
            pass
    assert isinstance(upstreams.of(settings).visit(url, Deadline(LONG)), Visit)


# A connection does not keep the identity of its previous user


def test_reused_connection_requires_a_new_bind(own_slapd: SlapdServer) -> None:
    """The server reads the identity of each operation: a person's own entry is all that they may see."""
    for name in ("ann", "bob"):
        own_slapd.add_person(name, mail=f"{name}@acme.example")
    template: dict[str, Any] = {"base": "", "bind_dn": "", "bind_password": None, "user_dn": f"uid={{user}},{PEOPLE}"}
    settings = own_slapd.settings(attributes=LdapAttributes(email="mail"), **template)
    directory = LdapDirectory(settings)
    for name in ("ann", "bob", "ann"):
        found = directory.verify(name, PASSWORD)
        assert isinstance(found, DirectoryEntry)
        assert found.attributes["email"] == f"{name}@acme.example"
    assert reason(directory.verify("bob", "wrong")) is Reason.BAD_CREDENTIALS
    directory.close()
    assert settings.ldap is not None
    server = DirectoryServer(settings.ldap.servers[0], settings.ldap)
    with server.call(Deadline(LONG)) as call:
        with call.user() as connection:
            assert connection.bind(f"uid=ann,{PEOPLE}", PASSWORD).code == 0
            assert connection.read(f"uid=ann,{PEOPLE}", ["mail"], call.deadline) is not None
        with call.user() as again:
            assert again is connection
            with pytest.raises(RuntimeError, match="previous user"):
                again.read(f"uid=ann,{PEOPLE}", ["mail"], call.deadline)
            assert again.bind(f"uid=bob,{PEOPLE}", "wrong").code == 49
            with pytest.raises(RuntimeError, match="previous user"):
                again.read(f"uid=ann,{PEOPLE}", ["mail"], call.deadline)
            assert again.bind(f"uid=bob,{PEOPLE}", PASSWORD).code == 0
            assert again.read(f"uid=ann,{PEOPLE}", ["mail"], call.deadline) is None
            assert again.read(f"uid=bob,{PEOPLE}", ["mail"], call.deadline) is not None
    server.close()


def test_people_are_never_bound_on_the_services_connection(well: ScriptedServer) -> None:
    directory = LdapDirectory(well.as_service())
    for _ in range(4):
        assert directory.verify("ann", PASSWORD) == ANN
    service = {asked.connection for asked in well.asked if asked.operation == SEARCH or b"cn=service" in asked.octets}
    people = {asked.connection for asked in well.asked if asked.operation == BIND and b"uid=ann" in asked.octets}
    assert (len(service), len(people), service & people) == (1, 1, set())
    directory.close()


@pytest.mark.parametrize("failing", [BIND, SEARCH])
def test_after_an_error_a_connection_is_thrown_away(failing: int) -> None:
    def say(asked: Asked) -> bytes:
        if broken and asked.operation == failing:
            return asked.result(80)
        return finds_ann(good)(asked) or b""

    broken = False
    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.settings())
        assert directory.verify("ann", PASSWORD) == directory.verify("ann", PASSWORD) == ANN
        broken = True
        assert reason(directory.verify("ann", PASSWORD)) is Reason.SERVER_ERROR
        assert server.connections == 2
        broken = False
        assert directory.verify("ann", PASSWORD) == ANN
        assert server.connections == 3


def test_wrong_password_keeps_the_connection() -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(49))) as server:
        directory = LdapDirectory(server.settings())
        for _ in range(3):
            assert reason(directory.verify("ann", "wrong")) is Reason.BAD_CREDENTIALS
        assert server.connections == 2


def test_connections_grow_old(well: ScriptedServer) -> None:
    clock = Clock()
    directory = LdapDirectory(well.by_template(), clock=clock)

    def connections_after(seconds: float) -> int:
        clock.now += seconds
        assert directory.verify("ann", PASSWORD) == ANN
        return well.connections

    assert [connections_after(seconds) for seconds in (0, LONGEST_IDLE - 1, LONGEST_IDLE)] == [1, 1, 2]
    made = clock.now
    while clock.now + LONGEST_IDLE - 1 < made + LONGEST_LIFE:
        assert connections_after(LONGEST_IDLE - 1) == 2
    assert connections_after(LONGEST_IDLE - 1) == 3
    directory.close()


def test_only_so_many_idle_connections_are_kept(well: ScriptedServer) -> None:
    settings = well.settings().ldap
    assert settings is not None
    server = DirectoryServer(settings.servers[0], settings)
    pool = Pool(2)
    with server.call(Deadline(LONG)) as call:
        connections = [server.open(call.deadline) for _ in range(3)]
        for connection in connections:
            pool.give(connection)
        assert [pool.take() for _ in range(3)] == [connections[1], connections[0], None]
    for connection in connections:
        connection.close()


def test_failure_after_a_good_password_is_uncounted(well: ScriptedServer) -> None:
    answers: list[Callable[[Asked], bytes]] = [good, lambda asked: asked.result(52)]

    def say(asked: Asked) -> bytes:
        if b"ou=groups" in asked.octets:
            return answers[-1](asked)
        return finds_ann(good)(asked) or b""

    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.settings(group_base="ou=groups"))
        found = directory.verify("ann", PASSWORD)
        assert isinstance(found, Unavailable)
        assert found.uncounted
        answers.pop()
        assert directory.verify("ann", PASSWORD) == ANN
