"""The benchmarks run, and measure what they say: each contender answers as its user."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as all_benchmarks
from benchmarks import ldap, load, request_overhead, saml, state_growth, state_many
from benchmarks.saml_encrypted import encrypted, unavoidable
from benchmarks.saml_fixtures import Contender, Desk
from flask_genesys_auth.testing.saml_messages import generate_signing_key
from tests.servers import require


def test_request_overhead_measures_every_contender(capsys: pytest.CaptureFixture[str]) -> None:
    require("redis-server", "redis-server")
    status = request_overhead.main(["--rounds", "1", "--requests", "2", "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert status in {0, 1}  # whether a target is met is not for a test to say
    assert len(told["microseconds"]) == 11
    assert printed.err.count("target <=") == len(request_overhead.TARGETS)
    assert {row["ours"] for row in told["ratios"]} == {target.ours for target in request_overhead.TARGETS}
    assert all(row["ratio"] > 0 for row in told["ratios"])


def test_all_benchmarks_run_by_one_command(capfd: pytest.CaptureFixture[str]) -> None:
    have_main = {
        one.stem for one in Path(all_benchmarks.__file__).parent.glob("*.py") if "parse_args" in one.read_text()
    }
    assert {run[0] for run in all_benchmarks.RUNS.values()} == have_main - {"__main__"}
    assert all_benchmarks.main(["files"]) == 0
    printed = capfd.readouterr().out
    assert "## files: python -m benchmarks.files_per_request" in printed
    assert "0 of 1 missed a target or failed" in printed


def test_a_wrong_answer_ends_the_benchmark() -> None:
    with request_overhead.contenders() as entrants:
        good = entrants[0]
        assert request_overhead.ask(good) == b"hello"
        wrong = request_overhead.Contender(good.name, good.app, good.environ, b"another answer")
        with pytest.raises(SystemExit, match="instead of"):
            request_overhead.ask(wrong)


SHORT = ["--rounds", "1", "--calls", "1", "--centers", "2", "--logins", "16"]


@pytest.fixture(scope="module")
def saml_told() -> dict[str, Any]:
    written, table = io.StringIO(), io.StringIO()
    with redirect_stdout(written), redirect_stderr(table):
        assert saml.main([*SHORT, "--json"]) in {0, 1}  # whether a target is met is not for a test to say
    return {**json.loads(written.getvalue()), "table": table.getvalue()}


def test_saml_measures_ours_and_every_installed_peer(saml_told: dict[str, Any]) -> None:
    wanted = {target.ours for target in saml.TARGETS}
    assert wanted <= set(saml_told["microseconds"])
    assert "python3-saml, settings reused" in saml_told["microseconds"]
    assert all(row["ratio"] > 0 for row in saml_told["ratios"])


def test_saml_has_no_errors_and_ranks_costs(saml_told: dict[str, Any]) -> None:
    assert saml_told["errors"] == 0
    costs = [milliseconds for _, milliseconds, _ in saml_told["worst"]]
    assert len(costs) > 30
    assert costs == sorted(costs, reverse=True)


def test_saml_prints_a_table(saml_told: dict[str, Any]) -> None:
    assert saml_told["table"].count("target <=") >= 5
    assert "16 logins of 8 threads: 0 errors" in saml_told["table"]


def test_saml_encrypts_for_the_receiver(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    own = generate_signing_key("the receiver")
    message = encrypted(desk.message(desk.service()).signed(desk.key), own)
    assert unavoidable(message, own).call() == "ann@acme.example"


def test_saml_stops_if_another_user_is_authenticated() -> None:
    with pytest.raises(SystemExit, match="instead of"):
        saml.timed(Contender("careless", lambda: "mallory@acme.example"), 1)


def test_load_measures_every_user_of_every_application(capsys: pytest.CaptureFixture[str]) -> None:
    brief = ["--rounds", "1", "--seconds", "0.2", "--cold", "4", "--store", "SQLite"]
    assert load.main([*brief, "--only", "compare", "--only", "cold", "--json"]) in {0, 1}
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == [
        load.LOGIN,
        load.HTTPAUTH,
        "session, SQLite, exact",
        "Basic, SQLite",
        "Salesforce, SQLite",
        "session, SQLite, revocation_delay 2",
    ]
    assert all(row["per_second"] > 0 and row["p50"] <= row["p99"] for row in told["rows"])
    assert "session, SQLite, exact / Flask-Login" in told["ratios"]


def test_load_measures_sessions_and_peers_with_latency(capsys: pytest.CaptureFixture[str]) -> None:
    require("redis-server", "redis-server")
    brief = ["--rounds", "1", "--seconds", "0.2", "--store", "Redis", "--json"]
    assert load.main([*brief, "--only", "peers", "--only", "latency", "--only", "memory"]) in {0, 1}
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 6
    assert all(row["per_second"] > 0 and row["p50"] <= row["p99"] for row in told["rows"])
    assert set(told["ratios"]) == {name for name in load.TARGETS if "Redis" in name}
    assert all(ratio > 0 for ratio in told["ratios"].values())


def test_load_counts_salesforce_answers_during_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    load.main(["--rounds", "1", "--seconds", "0.2", "--only", "outage"])
    printed = capsys.readouterr().out
    assert printed.count("while Salesforce hangs / while it is well") == 4
    well, hangs = (line for line in printed.splitlines() if line.startswith("Salesforce users"))
    assert "'200'" in well
    assert "'200'" not in hangs
    assert "'503'" in hangs


def test_load_ends_where_an_answer_is_wrong() -> None:
    with pytest.raises(SystemExit, match="wrong answers"):
        load.unspoiled("session", {"wrong": 1, "per_second": 10.0})
    assert load.unspoiled("session", {"wrong": 0, "per_second": 10.0})["wrong"] == 0


def test_state_many_measures_listing_and_revocation_per_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert state_many.main(["--many", "120", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: min(times.values()) > 0 for name, times in told["seconds"].items()} == dict.fromkeys(
        state_many.STORES, True
    )


def test_state_growth_compares_calls_on_few_and_many(capsys: pytest.CaptureFixture[str]) -> None:
    few_and_many = ["--few", "5", "--many", "50", "--rounds", "1", "--calls", "2", "--json"]
    assert state_growth.main(few_and_many) in {0, 1}  # whether the target is met is not for a test to say
    told = json.loads(capsys.readouterr().out)
    assert (told["few"], told["many"]) == (5, 50)
    assert {row["call"] for row in told["calls"]} == set(state_growth.CALLS)
    assert all(row["ratio"] > 0 for row in told["calls"])


def test_ldap_compares_with_bare_ldap3_and_counts_binds(capsys: pytest.CaptureFixture[str]) -> None:
    require("slapd", "slapd")
    assert ldap.main(["--rounds", "1", "--calls", "2", "--requests", "3", "--json"]) in {
        0,
        1,
    }  # whether a target is met is not for a test to say
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["binds"] == 0
    assert {row["ours"] for row in told["ratios"]} == {target.ours for target in ldap.TARGETS}
    assert all(row["ratio"] > 0 for row in told["ratios"])
    assert printed.err.count("target <=") == len(ldap.TARGETS)


def test_ldap_ends_where_ann_is_not_let_in() -> None:
    with pytest.raises(SystemExit, match="not let in"):
        ldap.measure({"careless": lambda: False}, os.getpid(), rounds=1, calls=1)
