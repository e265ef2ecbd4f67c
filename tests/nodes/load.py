"""A closed loop of visitors who know what is true, and count whatever the portal says against it.

Each visitor is one thread with one connection, which sends its next request when the last one is answered. Counted are
wrong decisions (another user, 200 for bad credentials or an ended session, 401 for good ones), confirmed logins that
were lost, and answers that no page documents; and when who has good credentials was not served, for how long.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from http.client import HTTPException, IncompleteRead
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from .client import Answer, Client

if TYPE_CHECKING:
    from typing_extensions import Self

ME = "/api/v2/me"
ENOUGH = 30
"""Times in a row that each visitor with good credentials must be served before all is well."""
PAUSE = 0.03
"""Seconds between a visitor's requests: the servers share the machine with the load."""
TURNS_OF_A_SESSION = 25

Verdict = Literal["served", "not served"]


class Tally:
    """What all visitors of a load have seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.undocumented: list[str] = []
        self.last_trouble = 0.0
        self.troubles: Counter[str] = Counter()

    def note(self, kind: str, said: str) -> None:
        """Count an answer."""
        with self._lock:
            self.answers[kind, said] += 1

    def trouble(self, kind: str, at: float) -> None:
        """Record that a visitor with good credentials was not served."""
        with self._lock:
            self.troubles[kind] += 1
            self.last_trouble = max(self.last_trouble, at)

    def statuses(self, kind: str) -> dict[str, int]:
        """Return how often each answer came to visitors of this kind."""
        return {said: count for (whose, said), count in self.answers.items() if whose == kind}

    def report(self) -> str:
        """Return all of it in a few lines."""
        kinds = sorted({kind for kind, _ in self.answers})
        told = ", ".join(f"{kind} {dict(sorted(self.statuses(kind).items()))}" for kind in kinds)
        counts = f"wrong {len(self.wrong)}, lost {len(self.lost)}, undocumented {len(self.undocumented)}"
        return f"{sum(self.answers.values())} answers; {counts}; {told}"


class Visitor:
    """A client that sends requests again and again.

    :param kind: how answers to visitors like this are counted.
    :ivar good: its credentials are good, so that it ought to be served.
    :ivar busy: what it may be answered on a bad day, with ``Retry-After``.
    """

    good = True
    busy: Collection[int] = (503,)

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.in_row = 0

    def turn(self, client: Client, judge: Judge) -> Verdict:
        """Send one request and judge what came of it.

        :raises OSError: if nothing came, as :meth:`Client.ask` has it.
        """
        raise NotImplementedError


class Judge:
    """Tells what of an answer is right, for one visitor."""

    def __init__(self, tally: Tally, visitor: Visitor, also: Collection[int]) -> None:
        self._tally = tally
        self._kind = visitor.kind
        self._busy = visitor.busy
        self._also = also

    def wrong(self, what: str) -> None:
        """Say that a decision was wrong."""
        self._tally.wrong.append(f"{self._kind}: {what}")

    def lost(self, what: str) -> None:
        """Say that a login that was confirmed is gone."""
        self._tally.lost.append(f"{self._kind}: {what}")

    def documented(self, answer: Answer, *expected: int) -> bool:
        """Return whether the answer is an expected one; note it if no page says that it may come instead."""
        self._tally.note(self._kind, str(answer.status))
        if answer.status in expected:
            return True
        busy = answer.status in self._busy and answer.headers.get("retry-after", "").isdigit()
        if not busy and answer.status not in self._also:
            self._tally.undocumented.append(f"{self._kind}: {answer.status} {answer.body[:200]!r}")
        return False

    def owner(self, answer: Answer, name: str) -> None:
        """Look whether a 200 is of this person."""
        found = answer.json["user"]["userName"]
        if found != name:
            self.wrong(f"{name} was taken for {found}")


class Known(Visitor):
    """Sends good credentials with every request.

    :param name: whose they are.
    """

    def __init__(self, kind: str, headers: Mapping[str, str], name: str) -> None:
        super().__init__(kind)
        self._headers = headers
        self._name = name

    def turn(self, client: Client, judge: Judge) -> Verdict:
        """Ask who I am."""
        answer = client.ask(ME, headers=self._headers)
        if answer.status == 401:
            judge.wrong(f"good credentials of {self._name} were called bad")
        if not judge.documented(answer, 200, 401) or answer.status == 401:
            return "not served"
        judge.owner(answer, self._name)
        return "served"


class Stranger(Visitor):
    """Sends bad credentials with every request, each time others.

    :param make: gives the headers for a number.
    """

    good = False
    busy = (429, 503)

    def __init__(self, kind: str, make: Callable[[int], Mapping[str, str]]) -> None:
        super().__init__(kind)
        self._make = make
        self._number = 0

    def turn(self, client: Client, judge: Judge) -> Verdict:
        """Ask, and be refused."""
        self._number += 1
        answer = client.ask(ME, headers=self._make(self._number))
        if answer.status == 200:
            judge.wrong(f"bad credentials were taken for {answer.json['user']['userName']}")
        judge.documented(answer, 200, 401)
        return "served"


class Session(Visitor):
    """Logs in by the form, asks with the cookie for a while, logs out, and tries the old cookie.

    :param turns: requests between login and logout.
    :param persists: a login that was confirmed must last, whatever happens to the store.
    """

    def __init__(
        self, kind: str, name: str, password: str, *, turns: int = TURNS_OF_A_SESSION, persists: bool = True
    ) -> None:
        super().__init__(kind)
        self._name = name
        self._password = password
        self._turns = turns
        self._persists = persists
        self._left = 0
        self._ended: dict[str, str] | None = None

    def turn(self, client: Client, judge: Judge) -> Verdict:
        """Do what is next."""
        if self._ended is not None:
            return self._try_ended(client, judge)
        if not client.cookies:
            return self._log_in(client, judge)
        return self._ask(client, judge) if self._left else self._log_out(client, judge)

    def _log_in(self, client: Client, judge: Judge) -> Verdict:
        try:
            answer = client.log_in(self._name, self._password)
        except BaseException:
            client.cookies.clear()
            raise
        if judge.documented(answer, 303, 401) and answer.status == 303:
            self._left = self._turns
            return "served"
        client.cookies.clear()
        if answer.status == 401:
            judge.wrong(f"the good password of {self._name} was called bad")
        return "not served"

    def _ask(self, client: Client, judge: Judge) -> Verdict:
        answer = client.ask(ME)
        if not judge.documented(answer, 200, 401):
            return "not served"
        self._left -= 1
        if answer.status == 200:
            judge.owner(answer, self._name)
            return "served"
        client.cookies.clear()
        if self._persists:
            judge.lost(f"the confirmed login of {self._name}")
        return "not served"

    def _log_out(self, client: Client, judge: Judge) -> Verdict:
        former = dict(client.cookies)
        try:
            answer = client.log_out()
        finally:
            # Without an answer it is unknown whether the session has ended: the next login is another one.
            client.cookies.clear()
        if not judge.documented(answer, 303):
            return "not served"
        self._ended = former
        return "served"

    def _try_ended(self, client: Client, judge: Judge) -> Verdict:
        client.cookies = self._ended or {}
        try:
            answer = client.ask(ME)
        finally:
            client.cookies.clear()
        if not judge.documented(answer, 200, 401):
            return "not served"
        self._ended = None
        if answer.status == 200:
            judge.wrong(f"the ended session of {self._name} was taken")
        return "served"


class Load:
    """Visitors that come at the same time, until the context is left.

    :param connect: makes a visitor's client, which comes from that address: each visitor has its own.
    :param also: statuses that may come instead, such as 502 where a node dies.
    :param pause: seconds between a visitor's requests.
    """

    def __init__(
        self,
        visitors: Sequence[Visitor],
        connect: Callable[[str], Client],
        *,
        also: Collection[int] = (),
        pause: float = PAUSE,
    ) -> None:
        self.tally = Tally()
        self._visitors = visitors
        self._connect = connect
        self._also = also
        self._pause = pause
        self._over = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(one, f"127.0.1.{number}"), daemon=True)
            for number, one in enumerate(visitors, 1)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def until_well(self, patience: float = 120.0) -> float:
        """Wait until every visitor with good credentials is served; return the seconds until that began.

        :raises AssertionError: if it does not within ``patience`` seconds.
        """
        began = time.monotonic()
        good = [one for one in self._visitors if one.good]
        for one in good:
            one.in_row = 0
        while any(one.in_row < ENOUGH for one in good):
            if self._failures:
                raise self._failures[0]
            if time.monotonic() - began > patience:
                raise AssertionError(f"not well in {patience:g} s: {self.tally.report()}")
            time.sleep(0.02)
        return max(0.0, self.tally.last_trouble - began)

    def _run(self, visitor: Visitor, address: str) -> None:
        judge = Judge(self.tally, visitor, self._also)
        try:
            with self._connect(address) as client:
                while not self._over.is_set():
                    self._turn(visitor, client, judge)
                    self._over.wait(self._pause)
        except BaseException as error:  # its thread would end in silence
            self._failures.append(error)

    def _turn(self, visitor: Visitor, client: Client, judge: Judge) -> None:
        try:
            verdict = visitor.turn(client, judge)
        except (OSError, HTTPException) as error:
            self.tally.note(visitor.kind, "no answer")
            # nginx stays, and answers whatever becomes of the nodes: with a 502, or, if the worker is killed after the
            # head of its answer has been passed on, with no more than that.
            if not (isinstance(error, IncompleteRead) and 502 in self._also):
                self.tally.undocumented.append(f"{visitor.kind}: {error!r}")
            verdict = "not served"
        if verdict == "served":
            visitor.in_row += 1
        elif visitor.good:
            visitor.in_row = 0
            self.tally.trouble(visitor.kind, time.monotonic())
