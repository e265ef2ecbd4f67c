"""Each event of the closed list occurs in a scenario; its record has exactly the documented fields."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from flask_genesys_auth import GenesysAuth, signals, unprotected
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.errors import AccountsUnavailable, StateUnavailable
from flask_genesys_auth.events import FIELDS, Event, Outage, is_logged, log_event, plain
from flask_genesys_auth.limits.shared import SharedLedger
from flask_genesys_auth.limits.throttle import Limit
from flask_genesys_auth.saml.metadata import parse_metadata
from flask_genesys_auth.saml.sources import StoredMetadata
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata
from flask_genesys_auth.upstream.breaker import FAILURES, Guard
from flask_genesys_auth.web.runtime import runtime
from tests.saml.addresses import IDP, SSO
from tests.saml.application import BreakableState, Browser
from tests.saml.application import MakeApp as MakeDesk
from tests.saml.logout.test_views import SLO, leave, response_to, sent
from tests.saml.provider_site import Clock, keys_after_looking, metadata_of, okta, service_at
from tests.servers import RedisServer
from tests.web.conftest import FAST, MakeApp, accounts_of

from .conftest import Told

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (debug|info|warning|error) \|.*\|([^|]*)\|$", re.M)
EVENTS = {event: (level, set(re.findall(r"`(\w+)`", more))) for event, level, more in ROW.findall(DOCUMENTED)}
ANN = ("ann@acme.example", "ann's: password")
SUE = "sue@acme.example"


@dataclass
class Bench:
    """What a scenario may use."""

    make_app: MakeApp
    make_desk: MakeDesk
    key: SigningKey
    other_key: SigningKey
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    redis: Callable[[], RedisServer]


@pytest.fixture
def bench(
    make_app: MakeApp,
    make_desk: MakeDesk,
    key: SigningKey,
    other_key: SigningKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Bench:
    return Bench(
        make_app,
        make_desk,
        key,
        other_key,
        tmp_path,
        monkeypatch,
        redis=lambda: request.getfixturevalue("own_redis_server"),
    )


def walks(bench: Bench) -> None:
    client = bench.make_app({"throttle": {"per_account": "1 per hour"}}).test_client()
    assert client.get("/private", auth=ANN).status_code == 200
    assert client.get("/private", auth=(ANN[0], "wrong")).status_code == 401
    assert client.get("/private", auth=(ANN[0], "wrong")).status_code == 429


def unavailable(bench: Bench) -> None:
    def down(*_: object) -> None:
        raise AccountsUnavailable("told to fail")

    app = bench.make_app()
    bench.monkeypatch.setattr(accounts_of(app), "password_hash", down)
    assert app.test_client().get("/private", auth=ANN).status_code == 503


def sessions(bench: Bench) -> None:
    auth = GenesysAuth()

    def log_in() -> str:
        assert auth.log_in_with_password(*ANN).authenticated
        return "in"

    def log_out() -> str:
        auth.logout()
        return "out"

    app = bench.make_app(
        prepare=lambda app: (
            app.add_url_rule("/in", "in", unprotected(log_in), methods=["POST"]),
            app.add_url_rule("/out", "out", log_out, methods=["POST"]),
        )
    )
    client = app.test_client()
    assert client.post("/in").text == "in"
    assert client.post("/out").text == "out"
    assert client.post("/in").text == "in"
    (account,) = [one for one in accounts_of(app).list() if one.user_name == ANN[0]]
    with app.app_context():
        assert auth.revoke(account_id=account.id) == 1


def refusals(bench: Bench) -> None:
    client = bench.make_app().test_client()
    assert client.get("/supervisors", auth=ANN).status_code == 403
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/private", auth=ANN, headers=evil).status_code == 403


def saml(bench: Bench) -> None:
    browser = Browser(bench.make_desk(okta={"provision": True}), bench.key)
    login, relay_state = browser.begin()
    assert browser.answer(browser.message(login, audience="https://other.example"), relay_state).status_code == 400
    assert browser.get("/saml/acme/slo?SAMLRequest=x").status_code == 400
    assert browser.log_in(name_id="new@acme.example").status_code == 303


def saml_logout(bench: Bench) -> None:
    path = bench.folder / "single-logout.xml"
    path.write_text(provider_metadata(IDP, SSO, (bench.key.certificate,), slo_url=SLO, slo_bindings=("HTTP-Redirect",)))
    ours = {"signing_key": bench.other_key.private_pem, "signing_certificate": bench.other_key.certificate_pem}
    browser = Browser(bench.make_desk(okta={"metadata": str(path)}, **ours), bench.key)
    assert browser.log_in().status_code == 303
    asked, relay_state = sent(leave(browser), "redirect")
    answered = browser.get(f"{browser.base}/slo", query_string=response_to(asked, relay_state).query(browser.key))
    assert answered.status_code == 303


def saml_metadata(bench: Bench) -> None:
    clock, path = Clock(), bench.folder / "watched.xml"
    path.write_text(metadata_of(bench.key))
    with service_at(path, clock) as service:
        for content in ("<half", metadata_of(bench.other_key)):
            path.write_text(content)
            clock.pass_(10)
            keys_after_looking(okta(service))
    state = BreakableState("tests")
    state.broken = True
    held = parse_metadata(metadata_of(bench.key).encode(), entity_id=IDP, now=clock.now, signer=None)
    assert not StoredMetadata(state, ("acme", "okta")).put(held)


def circuits(bench: Bench) -> None:
    now = [0.0]
    guard = Guard(clock=lambda: now[0])
    for _ in range(FAILURES):
        with guard.enter("https://login.example:443", "00D") as passage:  # type: ignore[union-attr]  # it is open
            passage.failed("no connection: Connection refused")
    now[0] = 60
    with guard.enter("https://login.example:443", "00D") as passage:  # type: ignore[union-attr]  # it may try
        passage.answered()


def state(bench: Bench) -> None:
    path = bench.folder / "state.sqlite3"
    store = SqlState(f"sqlite:///{path}", "tests", 1.0)
    store.put("key", 1, 60)
    store.close()
    for file in bench.folder.glob("state.sqlite3*"):
        file.unlink()
    path.write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            store.get("key")
    path.unlink()
    assert store.get("key") is None
    assert store.get("key") is None
    store.close()


def purging(bench: Bench) -> None:
    path, now = bench.folder / "state.sqlite3", [1e9]
    store = SqlState(f"sqlite:///{path}", "tests", 1.0, clock=lambda: now[0])
    store.put("old", 1, 60)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER no BEFORE DELETE ON genesys_auth_state BEGIN SELECT RAISE(ABORT, 'no'); END")
    now[0] += 61
    store.close()
    # The first thing that a process writes purges in passing.
    again = SqlState(f"sqlite:///{path}", "tests", 1.0, clock=lambda: now[0])
    again.put("new", 1, 60)
    assert again.get("new") == 1
    again.close()


def throttle(bench: Bench) -> None:
    server = bench.redis()
    now = [0.0]
    ledger = SharedLedger(server.url, "tests", 5.0, clock=lambda: now[0])
    wanted = [(Limit("address", 5, 60.0), b"here")]
    assert ledger.look(wanted) == [0.0]
    server.stop()
    assert ledger.look(wanted) == [0.0]
    assert not ledger.shared
    server.start()
    now[0] = 60
    assert ledger.look(wanted) == [0.0]
    assert ledger.shared
    ledger.close()


def passwords(bench: Bench) -> None:
    app = bench.make_app()
    assert not runtime(app).hasher.verify("$1$of$another", "a password")
    store = accounts_of(app)
    account = store.get_by_name("acme", ANN[0])
    assert account is not None
    store.set_password(account.id, PasswordHasher(PasswordSettings(**{**FAST, "memory_kib": 16})).hash(ANN[1]))

    def read_only(*_: object) -> None:
        raise AccountsUnavailable("it is read-only")

    bench.monkeypatch.setattr(store, "replace_password_hash", read_only)
    assert app.test_client().get("/private", auth=ANN).status_code == 200


def configuration(bench: Bench) -> None:
    bench.make_app({"unprotected_endpoints": ["nothing"]}).test_client().get("/open")


def receiver(bench: Bench) -> None:
    def raises(*_: object, **__: object) -> None:
        raise RuntimeError("the receiver's own trouble")

    app = bench.make_app()
    with signals.authenticated.connected_to(raises, app):
        assert app.test_client().get("/private", auth=ANN).status_code == 200


SCENARIOS: dict[Callable[[Bench], None], set[str]] = {
    walks: {"authenticated", "rejected", "throttled"},
    unavailable: {"unavailable"},
    sessions: {"logged_in", "logged_out", "session_revoked"},
    refusals: {"role_refused", "origin_refused"},
    saml: {"saml_refused", "saml_logout_refused", "account_enrolled"},
    saml_logout: {"saml_logout"},
    saml_metadata: {"saml_metadata_failed", "saml_metadata_replaced", "saml_metadata_not_kept"},
    circuits: {"circuit_opened", "circuit_closed"},
    state: {"state_lost", "state_regained"},
    purging: {"state_not_purged"},
    throttle: {"throttle_lost", "throttle_regained"},
    passwords: {"password_hash_unreadable", "password_hash_not_renewed"},
    configuration: {"configuration_warning"},
    receiver: {"receiver_failed"},
}


def test_page_documents_level_and_fields_of_every_event() -> None:
    ours = {str(event): (logging.getLevelName(event.level).lower(), set(event.more)) for event in Event}
    assert ours == EVENTS
    fields = DOCUMENTED.partition("| event |")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", fields, re.M)) == FIELDS


def test_every_event_has_a_scenario() -> None:
    assert set().union(*SCENARIOS.values()) == {str(event) for event in Event}


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(one, id=one.__name__, marks=[pytest.mark.server] if one is throttle else []) for one in SCENARIOS],
)
def test_record_has_exactly_the_documented_fields(bench: Bench, told: Told, scenario: Callable[[Bench], None]) -> None:
    scenario(bench)
    assert SCENARIOS[scenario] <= {fields["event"] for fields in told.fields()}
    for record in told.records:
        assert record.name == "flask_genesys_auth"
        fields = vars(record)["genesys_auth"]
        assert type(fields) is dict
        _, more = EVENTS[fields["event"]]
        assert set(fields) == {*FIELDS, *more}
        assert isinstance(fields["elapsed"], (float, type(None)))
        assert isinstance(fields.get("count", 0), int)
        assert all(isinstance(value, str) for name, value in fields.items() if name not in {"elapsed", "count"})
        assert record.getMessage().startswith(f"{fields['event']}: ")
        assert record.exc_info is None or fields["event"] == "receiver_failed"


def test_records_of_walks_and_sessions_have_their_values(bench: Bench, told: Told) -> None:
    walks(bench)
    (good,) = told.fields("authenticated")
    assert (good["step"], good["outcome"], good["reason"]) == ("web_services", "authenticated", "")
    assert (good["contact_center"], good["address"]) == ("acme", "127.0.0.1")
    (bad,) = told.fields("rejected")
    assert (bad["step"], bad["reason"], bad["account"]) == ("web_services", "bad_credentials", ANN[0])
    (late,) = told.fields("throttled")
    assert (late["outcome"], late["reason"], late["detail"]) == (
        "unavailable",
        "throttled",
        "over the limit of failures per account",
    )
    told.records.clear()
    sessions(bench)
    ids = {fields["account"] for fields in told.fields() if fields["event"] in {"logged_in", "logged_out"}}
    (revoked,) = told.fields("session_revoked")
    assert ids == {revoked["account"]}
    assert (revoked["count"], revoked["detail"], revoked["address"]) == (1, "by an administrator", "")


def test_an_outage_and_its_end_are_logged_once(bench: Bench, told: Told) -> None:
    state(bench)
    assert [fields["event"] for fields in told.fields()] == ["state_lost", "state_regained"]
    assert all(str(bench.folder / "state.sqlite3") in fields["detail"] for fields in told.fields())


def test_concurrent_requests_log_an_outage_once(told: Told) -> None:
    outage, many = Outage("the state"), 16
    with ThreadPoolExecutor(many) as pool:
        for number in range(1, 20):
            list(pool.map(lambda _: outage.failed("it did not answer"), range(many)))
            list(pool.map(lambda _: outage.answered(), range(many)))
            assert [len(told.fields(event)) for event in ("state_lost", "state_regained")] == [number, number]


def test_disabled_records_collect_no_fields(bench: Bench, told: Told) -> None:
    logging.getLogger("flask_genesys_auth").setLevel(logging.INFO)
    assert not is_logged(Event.AUTHENTICATED)
    assert is_logged(Event.LOGGED_IN)
    assert is_logged(Event.AUTHENTICATED, logging.ERROR)
    log_event(Event.AUTHENTICATED, account="ann")
    assert bench.make_app().test_client().get("/private", auth=ANN).status_code == 200
    assert not told.records


def test_an_event_has_no_fields_but_its_own(told: Told) -> None:
    with pytest.raises(TypeError, match="logged_in has no count, reference"):
        log_event(Event.LOGGED_IN, reference="x", count=1)
    assert not told.records


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ann@acme.example", "ann@acme.example"),
        ("a\nb\r\x00", "a\\nb\\r\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\u200b\u2028\ud800\x9b", "\\u200b\\u2028\\ud800\\x9b"),
        ("é ü 漢", "é ü 漢"),
        ("x" * 200, "x" * 100),
        ("\n" * 200, "\\n" * 50),
    ],
)
def test_untrusted_text_is_escaped_on_one_line(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_template_reading_the_user_logs_no_refusal(bench: Bench, told: Told) -> None:
    client = bench.make_app().test_client()
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.post("/private", auth=ANN, headers=evil).status_code == 403
    assert [fields["detail"] for fields in told.fields("origin_refused")] == [
        "POST private from another site: Origin 'https://evil.example', Sec-Fetch-Site 'cross-site'"
    ]
    told.records.clear()
    assert client.post("/nothing", auth=ANN, headers=evil).status_code == 404
    assert not told.fields("origin_refused")
