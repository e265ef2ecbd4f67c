"""Guesses of passwords from one address and from a thousand: over both nodes they never exceed the limits.

Each guess comes as nginx would pass it on, to one node and the other in turn; one test comes by nginx itself.
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from .crowd import basic
from .deployment import PASSWORD, Deployment
from .load import ME

PER_ACCOUNT = 10
ANYWHERE = 50
MAX_FAILURES = 2
THREADS = 16
_names = itertools.count(1)


class Guess(NamedTuple):
    name: str
    address: str


@pytest.fixture
def portal(redis_portal: Deployment) -> Deployment:
    return redis_portal


def addresses(count: int) -> list[str]:
    """Return addresses that no test has used before."""
    block = next(_names)
    return [f"10.{block}.{number // 250}.{number % 250 + 1}" for number in range(count)]


def victim(portal: Deployment, who: str = "victim") -> str:
    """Add a user with a local password; return the name."""
    name = f"{who}-{next(_names)}@plain.example"
    portal.add(name, contact_center="plain")
    return name


def agent(portal: Deployment) -> str:
    """Add a user whose password Configuration Server checks; return the name."""
    name = f"agent-{next(_names)}@guarded.example"
    portal.outside.guarded.add_user(name, PASSWORD)
    portal.add(name, contact_center="guarded", password_hash=None)
    return name


def answers(portal: Deployment, guesses: Iterable[Guess], *, threads: int = 1) -> Counter[int]:
    """Send each guess with another password, to the nodes in turn; return how often each status came."""
    numbered = enumerate(guesses)

    def send(_: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        with portal.nodes[0].client() as one, portal.nodes[1].client() as other:
            for number, guess in iter(lambda: next(numbered, None), None):
                headers = {**basic(guess.name, f"guess {number}"), "X-Forwarded-For": guess.address}
                seen[(one, other)[number % 2].ask(ME, headers=headers).status] += 1
        return seen

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(send, range(threads)), Counter())


@pytest.mark.parametrize("threads", [1, THREADS], ids=["sequential", "burst"])
class TestOfOurOwnAccounts:
    def test_one_address_has_ten_guesses_at_one_account(self, portal: Deployment, threads: int) -> None:
        guesses = [Guess(victim(portal), addresses(1)[0])] * 60
        assert answers(portal, guesses, threads=threads) == {401: PER_ACCOUNT, 429: 50}

    def test_distributed_guesses_are_limited_and_known_addresses_pass(self, portal: Deployment, threads: int) -> None:
        name = victim(portal)
        home, elsewhere = addresses(2)
        good = basic(name, PASSWORD)
        with portal.nodes[0].client() as one, portal.nodes[1].client() as other:
            assert one.ask(ME, headers={**good, "X-Forwarded-For": home}).status == 200
            guesses = [Guess(name, address) for address in addresses(1000 if threads > 1 else 100)]
            assert answers(portal, guesses, threads=threads) == {401: ANYWHERE, 429: len(guesses) - ANYWHERE}
            # On the node that has never seen them there: nothing is remembered.
            assert other.ask(ME, headers={**good, "X-Forwarded-For": home}).status == 200
            refused = other.ask(ME, headers={**good, "X-Forwarded-For": elsewhere})
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) > 0

    def test_one_address_gets_three_hundred_guesses_a_minute(self, portal: Deployment, threads: int) -> None:
        (address,) = addresses(1)
        guesses = [Guess(f"nobody-{number}@plain.example", address) for number in range(320)]
        began = time.monotonic()
        seen = answers(portal, guesses, threads=threads)
        minutes = int(time.monotonic() - began) // 60 + 1
        assert 300 <= seen[401] <= 300 * minutes
        assert seen[401] + seen[429] == 320
        name = victim(portal)
        with portal.nodes[0].client() as client:
            assert client.ask(ME, headers={**basic(name, PASSWORD), "X-Forwarded-For": addresses(1)[0]}).status == 200


@pytest.mark.parametrize("threads", [1, THREADS], ids=["sequential", "burst"])
@pytest.mark.parametrize("places", [1, 1000])
@pytest.mark.parametrize("accounts", [1, 20])
def test_directory_receives_at_most_the_configured_failures(
    portal: Deployment, places: int, accounts: int, threads: int
) -> None:
    names = [agent(portal) for _ in range(accounts)]
    taken = addresses(places if threads > 1 else min(places, 100))
    count = max(len(taken), 5 * accounts)
    guesses = [
        Guess(name, address)
        for _, name, address in zip(range(count), itertools.cycle(names), itertools.cycle(taken), strict=False)
    ]
    seen = answers(portal, guesses, threads=threads)
    asked = [portal.outside.guarded.asked[name] for name in names]
    # 503: too many calls at once. A request that was not sent on returned its slot, perhaps after all others.
    assert max(asked) == MAX_FAILURES
    assert min(asked) == MAX_FAILURES or seen[503]
    assert seen[401] == sum(asked)
    assert sum(seen.values()) == seen[401] + seen[429] + seen[503]
    assert threads > 1 or not seen[503]


def test_correct_password_takes_no_failure_slot(portal: Deployment) -> None:
    name = agent(portal)
    with portal.nodes[0].client() as one, portal.nodes[1].client() as other:
        for address in addresses(6):
            for client in (one, other):
                headers = {**basic(name, PASSWORD), "X-Forwarded-For": address}
                assert client.ask(ME, headers=headers).status == 200
    assert portal.outside.guarded.asked[name] == 12


def variants(name: str, realm: str) -> Iterator[str]:
    """Yield spellings of one name."""
    for form in ("NFC", "NFD"):
        spelled = unicodedata.normalize(form, name)
        for same in (spelled, spelled.upper(), spelled.title()):
            yield from (same, f"{realm}\\{same}", f"{realm.lower()}\\{same}")


def test_spellings_of_one_name_are_one_name(portal: Deployment) -> None:
    spellings = list(variants(victim(portal, "zoë"), "PLAIN"))
    assert len(set(spellings)) == 18
    (address,) = addresses(1)
    seen = answers(portal, [Guess(name, address) for name in spellings * 2], threads=THREADS)
    assert seen == {401: PER_ACCOUNT, 429: 36 - PER_ACCOUNT}


def test_spellings_of_one_name_share_the_limit(portal: Deployment) -> None:
    name = f"zoë-{next(_names)}@guarded.example"
    portal.outside.guarded.add_user(name, PASSWORD)
    guesses = [
        Guess(spelled, address) for spelled, address in zip(variants(name, "GUARDED"), addresses(18), strict=True)
    ]
    assert answers(portal, guesses, threads=THREADS) == {401: MAX_FAILURES, 429: 18 - MAX_FAILURES}
    asked = portal.outside.guarded.asked
    assert sum(count for who, count in asked.items() if "zo" in who and who.endswith(name[3:])) == MAX_FAILURES


@pytest.mark.parametrize("hidden", ["\u200b", " ", "\u00ad"], ids=["zero width space", "space", "soft hyphen"])
def test_a_name_with_hidden_characters_matches_no_account(portal: Deployment, hidden: str) -> None:
    name = agent(portal)
    guesses = [Guess(hidden + name, address) for address in addresses(6)]
    assert answers(portal, guesses) == {401: 6}
    assert portal.outside.guarded.asked[name] == 0


def test_throttle_counts_the_addresses_that_nginx_sees(portal: Deployment) -> None:
    name = victim(portal)
    seen: Counter[int] = Counter()
    for number in range(1, 7):
        # What the client says of itself under this name is not believed.
        told = {"X-Forwarded-For": f"10.200.0.{number}"}
        with portal.client(address=f"127.9.9.{number % 2 + 1}", headers=told) as client:
            for guess in range(6):
                seen[client.ask(ME, headers=basic(name, f"guess {guess}")).status] += 1
    assert seen == {401: 2 * PER_ACCOUNT, 429: 36 - 2 * PER_ACCOUNT}
