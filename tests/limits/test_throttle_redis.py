"""Limits that several nodes share in a real Redis: exact, with a logged fallback during an outage."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.config.settings import ThrottleSettings
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.limits import FailureLimit, FailureThrottle
from flask_genesys_auth.limits.shared import PAUSE, SharedLedger
from flask_genesys_auth.limits.throttle import Limit
from flask_genesys_auth.state.memory import MemoryState
from tests.forking import holds_in_child
from tests.servers import RedisServer

from ..state.contract import Clock
from ..state.slow_wire import slow_wire, until
from .test_throttle import HERE, THERE, from_, passed, refused, taken

MakeNode = Callable[..., FailureThrottle]


@pytest.fixture
def make_node(redis_server: RedisServer) -> Iterator[MakeNode]:
    redis.Redis.from_url(redis_server.url).flushall()
    opened: list[SharedLedger] = []
    state = MemoryState("one")

    def make(namespace: str = "one", **limits: Any) -> FailureThrottle:
        opened.append(SharedLedger(redis_server.url, namespace, 10.0))
        return FailureThrottle(ThrottleSettings(**limits), state, opened[-1])

    yield make
    for ledger in opened:
        ledger.close()


@pytest.mark.parametrize("breaks", [True, False])
def test_failed_reservation_leaves_no_slot_taken(redis_server: RedisServer, breaks: bool) -> None:
    redis.Redis.from_url(redis_server.url).flushall()
    # Text that is no number breaks the script's arguments off on their way, after the slot was taken here.
    limit = Limit.of("account", "1 per minute")
    with closing(SharedLedger(redis_server.url, "one", 10.0)) as ledger:
        if breaks:
            with pytest.raises(UnicodeEncodeError):
                ledger.reserve([(dataclasses.replace(limit, name="\ud800"), b"ann"), (limit, b"ann")])
        else:
            assert not isinstance(ledger.reserve([(limit, b"ann")]), (list, Unavailable))
        assert (ledger.wait(limit, b"ann") > 0) is not breaks


def test_two_nodes_share_one_limit(make_node: MakeNode) -> None:
    one, two = make_node(), make_node()
    assert passed(lambda: one.reserve("acme", "ann", HERE), 6) == 6
    assert passed(lambda: two.reserve("acme", "ann", HERE), 20) == 4
    assert 295 <= refused(one.reserve("acme", "ann", HERE)).retry_after <= 300
    taken(two.reserve("acme", "bob", HERE))
    taken(one.reserve("acme", "ann", THERE))


def test_returned_slot_is_free_on_other_nodes(make_node: MakeNode) -> None:
    one, two = make_node(), make_node()
    slots = [taken(one.reserve("acme", "ann", HERE)) for _ in range(10)]
    refused(two.reserve("acme", "ann", HERE))
    for _ in range(3):
        slots[4].succeeded()
        slots[4].void()
    assert passed(lambda: two.reserve("acme", "ann", HERE), 5) == 1


def test_refusal_takes_no_slot_of_other_limits(make_node: MakeNode) -> None:
    limits = {"per_account": "1 per minute", "per_account_anywhere": "2 per hour", "per_address": "3 per day"}
    one, two = make_node(**limits), make_node(**limits)
    taken(one.reserve("acme", "ann", HERE))
    for node in (one, two) * 20:
        refused(node.reserve("acme", "ann", HERE))
    taken(two.reserve("acme", "bob", HERE))
    taken(one.reserve("acme", "cy", HERE))
    assert refused(two.reserve("acme", "dee", HERE)).retry_after > 86_000
    taken(two.reserve("acme", "ann", THERE))


def test_limit_slides_with_the_servers_clock(redis_server: RedisServer, make_node: MakeNode) -> None:
    make_node()
    clock = Clock()
    with closing(SharedLedger(redis_server.url, "one", 10.0, clock=clock)) as ledger:
        limit = FailureLimit("2 per hour", ledger)
        assert passed(lambda: limit.reserve("ann"), 3) == 2
        clock.advance(3600)
        refused(limit.reserve("ann"))
        client: Any = redis.Redis.from_url(redis_server.url)
        (slots,) = client.scan_iter()
        for slot in client.zrange(slots, 0, -1):
            client.zincrby(slots, -3600, slot)  # as if the server's clock had gone on for an hour
        clock.advance(3600)
        assert passed(lambda: limit.reserve("ann"), 3) == 2


def test_limit_of_zero_refuses_everything(make_node: MakeNode) -> None:
    assert refused(make_node(per_account="0 per minute").reserve("acme", "ann", HERE)).retry_after == 60


def test_refusal_is_remembered_without_a_round_trip(make_node: MakeNode) -> None:
    one, two = make_node(), make_node()
    assert passed(lambda: one.reserve("acme", "ann", HERE), 20) == 10
    assert two.over_limit("acme", "ann", HERE) is None
    refused(two.reserve("acme", "ann", HERE))
    refused(two.over_limit("acme", "ann", HERE))
    assert two.over_limit("acme", "bob", HERE) is None
    refused(one.over_limit("acme", "ann", HERE))


def test_two_nodes_share_the_limit_per_account(make_node: MakeNode) -> None:
    one, two = make_node(), make_node()
    taken(two.reserve("acme", "ann", HERE)).succeeded()
    addresses = from_(200)
    nodes = iter([one, two] * 100)
    assert passed(lambda: next(nodes).reserve("acme", "ann", next(addresses)), 200) == 50
    for node in (one, two):
        taken(node.reserve("acme", "ann", HERE)).succeeded()
        refused(node.reserve("acme", "ann", THERE))


def test_namespaces_count_apart(make_node: MakeNode) -> None:
    one, other = make_node("one"), make_node("other")
    assert passed(lambda: one.reserve("acme", "ann", HERE), 20) == 10
    assert passed(lambda: other.reserve("acme", "ann", HERE), 20) == 10


def test_directory_limits_count_per_contact_center(redis_server: RedisServer, make_node: MakeNode) -> None:
    make_node()
    with closing(SharedLedger(redis_server.url, "one", 10.0)) as ledger:
        acme, globex = (FailureLimit("2 per hour", ledger, name=name) for name in ("acme", "globex"))
        assert passed(lambda: acme.reserve("ann"), 5) == 2
        assert passed(lambda: globex.reserve("ann"), 5) == 2


def test_counters_expire_and_contain_no_names(redis_server: RedisServer, make_node: MakeNode) -> None:
    node = make_node()
    taken(node.reserve("acme", "ann", HERE))
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    spans = {name.split(":")[4]: client.pttl(name) for name in client.scan_iter()}
    assert {name: round(span / 1000) for name, span in spans.items()} == {
        "account": 300,
        "anywhere": 900,
        "address": 60,
    }
    assert not any("ann" in name or HERE in name for name in client.scan_iter())


_GUESSER = """
import sys
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.limits.shared import SharedLedger
from flask_genesys_auth.chain.outcomes import Unavailable
limit = FailureLimit("7 per hour", SharedLedger(sys.argv[1], "race", 30.0))
sys.stdin.readline()
print(sum(not isinstance(limit.reserve("ann"), Unavailable) for _ in range(5)))
"""


def test_burst_of_many_processes_gets_the_limit(redis_server: RedisServer, make_node: MakeNode) -> None:
    make_node()
    guessers = [
        subprocess.Popen(
            [sys.executable, "-c", _GUESSER, redis_server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(10)
    ]
    for guesser in guessers:
        assert guesser.stdin is not None
        guesser.stdin.write("go\n")
        guesser.stdin.flush()
    answers = [guesser.communicate(timeout=300)[0] for guesser in guessers]
    assert [guesser.returncode for guesser in guessers] == [0] * 10
    assert sum(map(int, answers)) == 7


def test_outage_falls_back_to_limits_per_process(
    own_redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    with (
        closing(SharedLedger(own_redis_server.url, "one", 1.0, clock=clock)) as mine,
        closing(SharedLedger(own_redis_server.url, "one", 1.0, clock=clock)) as its,
    ):
        one, two = FailureLimit("4 per hour", mine), FailureLimit("4 per hour", its)
        kept = taken(one.reserve("ann"))
        own_redis_server.stop()
        assert passed(lambda: one.reserve("ann"), 20) == 3
        assert passed(lambda: two.reserve("ann"), 20) == 4
        assert (mine.degraded, its.degraded) == (True, True)
        kept.void()
        outages = [record.getMessage() for record in caplog.records]
        assert len(outages) == 2
        assert all("each process counts by itself" in text and "throttle" in text for text in outages)
        own_redis_server.start()
        assert passed(lambda: two.reserve("bob"), 1) == 1
        assert its.degraded, "it is not asked again before the pause is over"
        clock.advance(PAUSE + 0.1)
        assert passed(lambda: one.reserve("cy"), 3) == 3
        assert passed(lambda: two.reserve("cy"), 3) == 1
        assert not mine.degraded
        assert not its.degraded
        assert sum("answers again" in record.getMessage() for record in caplog.records) == 2


def test_outage_without_fallback_gives_no_slots(own_redis_server: RedisServer) -> None:
    clock = Clock()
    with closing(SharedLedger(own_redis_server.url, "one", 1.0, fallback=False, clock=clock)) as ledger:
        limit = FailureLimit("4 per hour", ledger)
        taken(limit.reserve("ann"))
        own_redis_server.stop()
        for _ in range(3):
            answer = limit.reserve("ann")
            assert isinstance(answer, Unavailable)
            assert answer.reason is Reason.THROTTLE_UNAVAILABLE
        own_redis_server.start()
        clock.advance(PAUSE + 0.1)
        assert passed(lambda: limit.reserve("ann"), 20) == 3, "what was taken before is still taken in this process"


def test_hung_server_delays_one_request_per_pause(redis_server: RedisServer, make_node: MakeNode) -> None:
    make_node()
    clock = Clock()
    with slow_wire(redis_server.url) as wire, closing(SharedLedger(wire.url, "one", 0.3, clock=clock)) as ledger:
        limit = FailureLimit("100 per hour", ledger)
        wire.silent = True
        taken(limit.reserve("ann"))
        assert ledger.degraded
        until(lambda: wire.accepted == 1)
        for _ in range(10):
            taken(limit.reserve("ann"))
        assert wire.accepted == 1
        clock.advance(PAUSE + 0.1)
        for _ in range(10):
            taken(limit.reserve("ann"))
        until(lambda: wire.accepted == 2)


def test_answer_to_another_call_is_a_failure(redis_server: RedisServer, make_node: MakeNode) -> None:
    make_node()
    clock, limit, keys = Clock(), Limit("account", 1, 3600.0), [b"ann", b"bob"]
    with slow_wire(redis_server.url) as wire, closing(SharedLedger(wire.url, "one", 10.0, clock=clock)) as ledger:
        for key in keys:
            assert ledger.look([(limit, key)]) == [0.0]
        for stray in (b"*2\r\n$16\r\n0123456789abcdef\r\n*0\r\n", b"*0\r\n", b":1\r\n", b"$-1\r\n"):
            accepted = wire.accepted
            wire.late = stray
            assert ledger.look([(limit, keys[0])]) == [0.0]
            assert ledger.degraded
            clock.advance(PAUSE + 0.1)
            assert ledger.look([(limit, keys[0])]) == [0.0]
            assert not ledger.degraded
            assert wire.accepted == accepted + 1
        # What was reserved under a stray "yes" is known to this process alone.
        wire.late = b"*2\r\n$16\r\n0123456789abcdef\r\n*0\r\n"
        assert not isinstance(ledger.reserve([(limit, keys[1])]), list)
        assert ledger.degraded
        assert isinstance(ledger.reserve([(limit, keys[1])]), list)


@pytest.mark.parametrize("fork", ["python", "libc"])
def test_forked_child_opens_its_own_connections(redis_server: RedisServer, make_node: MakeNode, fork: str) -> None:
    make_node()
    with slow_wire(redis_server.url) as wire, closing(SharedLedger(wire.url, "one", 10.0)) as ledger:
        limit = FailureLimit("4 per hour", ledger)
        assert passed(lambda: limit.reserve("ann"), 2) == 2
        assert wire.accepted == 1
        assert holds_in_child(lambda: passed(lambda: limit.reserve("ann"), 1) == 1, fork=fork)
        assert wire.accepted == 2
        assert passed(lambda: limit.reserve("ann"), 20) == 1
        assert wire.accepted == 2
        assert not ledger.degraded


def test_secrets_of_the_url_are_hidden(caplog: pytest.LogCaptureFixture) -> None:
    with closing(SharedLedger("redis://ann:hunter2@127.0.0.1:1/0", "one", 0.2)) as ledger:
        taken(FailureLimit("4 per hour", ledger).reserve("ann"))
        assert "hunter2" not in repr(ledger) + caplog.text
        assert "127.0.0.1:1" in caplog.text
    with pytest.raises(ConfigurationError, match=r"throttle\.storage_url"):
        SharedLedger("redis://:hunter2@:x", "one", 0.2)


def test_remembered_refusals_are_bounded(redis_server: RedisServer, make_node: MakeNode) -> None:
    limit, keys = Limit("account", 1, 3600.0), [str(number).encode() for number in range(50)]
    make_node()
    with (
        closing(SharedLedger(redis_server.url, "one", 10.0)) as one,
        closing(SharedLedger(redis_server.url, "one", 10.0, max_refusals=10)) as two,
    ):
        for key in keys:
            assert not isinstance(one.reserve([(limit, key)]), list)
        for key in keys:
            assert isinstance(two.reserve([(limit, key)]), list)
        assert sum(two.wait(limit, key) > 0 for key in keys) == 10
