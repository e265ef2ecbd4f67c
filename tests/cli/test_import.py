"""``flask genesys-auth accounts import FILE``: all rows are checked before any is written."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth.accounts.importing import import_file, read_file
from flask_genesys_auth.accounts.models import AccountError
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.web.runtime import runtime
from tests.cli.conftest import Invoke, accounts_of, one_line

CSV = """\
contact_center,user_name,first_name,last_name,roles,enabled,password,password_hash,identities
acme,ann@acme.example,Ann,"Smith, the younger",ROLE_AGENT; ROLE_SUPERVISOR,,ann's: pässword,,salesforce=1;okta=a=b
acme,bob@acme.example,,,,no,,,
globex,ann@acme.example,,,,TRUE,,,salesforce=1
"""

GOOD = b'{"contact_center": "acme", "user_name": "good"}'


def linked(provider: str, value: str) -> Identity:
    return Identity("x", "acme", value, matched_by="identity", provider=provider)


def test_a_csv_file_is_imported(run: Invoke, app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "people.CSV"
    file.write_text("\ufeff" + CSV, encoding="utf-8")
    done = run("accounts", "import", str(file))
    assert done.output == "Added 3 accounts.\n"
    store = accounts_of(app)
    ann = store.get_by_name("acme", "ann@acme.example")
    assert ann is not None
    assert (ann.first_name, ann.last_name) == ("Ann", "Smith, the younger")
    assert ann.roles == {"ROLE_AGENT", "ROLE_SUPERVISOR"}
    assert store.find(linked("salesforce", "1")) == store.find(linked("okta", "a=b")) == ann
    assert runtime(app).hasher.verify(store.password_hash("acme", "ann@acme.example"), "ann's: pässword")
    assert [account.enabled for account in store.list()] == [True, False, True]


def test_a_json_file_is_imported(run: Invoke, app: Flask, tmp_path: Path) -> None:
    stored = runtime(app).hasher.hash("bob's password")
    rows: list[dict[str, Any]] = [
        {"contact_center": "acme", "user_name": "ann", "roles": ["A"], "password": "ann's password"},
        {"contact_center": "acme", "user_name": "bob", "enabled": False, "password_hash": stored, "first_name": None,
         "identities": {"salesforce": "1", "okta": ["a;b", "c"]}},
    ]  # fmt: skip
    file = tmp_path / "people.json"
    file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    assert run("accounts", "import", str(file)).output == "Added 2 accounts.\n"
    store = accounts_of(app)
    bob = store.find(linked("okta", "a;b"))
    assert bob is not None
    assert (bob.user_name, bob.enabled) == ("bob", False)
    assert store.password_hash("acme", "bob") == stored
    file.write_text("[]")
    assert run("accounts", "import", str(file)).output == "Added 0 accounts.\n"
    file.write_text('[{"contact_center": "acme", "user_name": "one"}]')
    assert run("accounts", "import", str(file)).output == "Added 1 account.\n"


def test_bad_rows_are_listed_and_nothing_is_written(run: Invoke, app: Flask, tmp_path: Path) -> None:
    run("accounts", "add", "acme", "there", "--identity", "salesforce=taken")
    rows = [
        {"contact_center": "acme", "user_name": "good", "identities": {"okta": "1"}},
        {"contact_center": "nowhere", "user_name": "x"},
        {"contact_center": "acme", "user_name": "GOOD"},
        {"contact_center": "acme", "user_name": "THERE"},
        {"contact_center": "acme", "user_name": "a:b", "roles": "no;list", "enabled": "perhaps"},
        {"contact_center": "acme", "user_name": 7, "roles": {"a": 1}, "identities": "okta"},
        {"contact_center": "acme", "user_name": "y", "password": "geheim", "password_hash": "verborgen"},
        {"contact_center": "acme", "user_name": "z", "password": "ge\theim"},
        {"contact_center": "acme", "user_name": "w", "password_hash": "verborgen", "nickname": "w"},
        {"contact_center": "acme", "user_name": "v", "identities": {"okta": "1"}},
        {"contact_center": "acme", "user_name": "u", "identities": {"salesforce": "taken"}},
        {"contact_center": "acme", "user_name": "t", "identities": {"okta": 1}, "roles": ["a", 1], "enabled": 1},
        {"contact_center": "acme", "user_name": "s", "identities": ["okta"]},
    ]
    file = tmp_path / "people.json"
    file.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]", encoding="utf-8")
    refused = run("accounts", "import", str(file))
    assert refused.exit_code == 1
    found = refused.output
    for expected in (
        "line 3, contact_center: 'nowhere' is not configured",
        "line 4, user_name: 'GOOD' is on line 2 as well",
        "line 5, user_name: acme already has 'THERE'",
        "line 6, user_name: ",
        "line 6, enabled: must be true or false",
        "line 7, user_name: must be text",
        "line 7, roles: must be an array",
        "line 7, identities: must be PROVIDER=VALUE",
        "line 8, password: must not be given with password_hash",
        "line 9, password: has control characters",
        "line 10, nickname: is not a field",
        "line 10, password_hash: is not an argon2id hash",
        "line 11, identities: okta=1 is on line 2 as well",
        "line 12, identities: salesforce=taken is already linked",
        "line 13, identities: must be an object",
        "line 13, roles: must be an array",
        "line 13, enabled: must be true or false",
        "line 14, identities: must be an object",
    ):
        assert expected in found
    assert "line 2," not in found
    for secret in ("geheim", "verborgen", "heim"):
        assert secret not in found
    assert [account.user_name for account in accounts_of(app).list()] == ["there"]
    file.write_text("[\n" + json.dumps(rows[0]) + "\n]", encoding="utf-8")
    assert run("accounts", "import", str(file)).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("a.json", b"{}", "must be an array"),
        ("a.json", b"", "must be an array"),
        ("a.json", b"[1]", "line 1, row: must be an object"),
        ("a.json", b"[\n" + GOOD + b" {}]", "a comma or a closing bracket is missing"),
        ("a.json", b"[\n" + GOOD + b",\n{", "line 3, file: is not valid JSON"),
        ("a.json", b"[", "is not valid JSON"),
        ("a.json", b"[] more", "has text after the array"),
        ("a.json", b"[" * 100_000, "is not valid JSON"),
        ("a.json", b'["\xff"]', "is not UTF-8"),
        ("a.csv", b"", "line 1, header: is empty"),
        ("a.csv", b"contact_center,nick\n", "line 1, header: has unknown columns: 'nick'"),
        ("a.json", b"[\n" + GOOD + b",\n" + b"1" * 5000 + b"]", "line 3, file: is not valid JSON"),
        ("a.csv", b"contact_center,user_name,user_name\n", "line 1, header: repeats 'user_name'"),
        ("a.csv", b"contact_center,user_name\nacme\n", "line 2, row: has more or fewer values"),
        ("a.csv", b"contact_center,user_name\nacme,x,y\n", "line 2, row: has more or fewer values"),
        (
            "a.csv",
            b"contact_center,user_name,identities\nacme,x,okta=1;okta=1\n",
            "line 2, identities: okta=1 is repeated",
        ),
        ("a.csv", b'contact_center,user_name\nacme,"x"y\n', "is not valid CSV"),
        ("a.csv", b"contact_center,user_name\nacme,\xff\n", "is not UTF-8"),
        ("a.txt", b"", "must end in .json or .csv"),
    ],
)
def test_an_unreadable_file_is_one_line(
    run: Invoke, app: Flask, tmp_path: Path, name: str, content: bytes, finding: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert finding in one_line(run("accounts", "import", str(file)))
    assert accounts_of(app).list() == []


def refused(run: Invoke, file: Path) -> list[str]:
    """Return the places of the findings, which are in the file's order."""
    shown = run("accounts", "import", str(file))
    assert shown.exit_code == 1
    assert isinstance(shown.exception, SystemExit)
    return [line.removeprefix("Error: ").partition(":")[0] for line in shown.output.splitlines()]


def test_all_problems_of_csv_are_listed(run: Invoke, app: Flask, tmp_path: Path) -> None:
    run("accounts", "add", "acme", "there")
    file = tmp_path / "people.csv"
    rows = ["acme,good,,", "acme", ",,,", "nowhere,x,perhaps,", "acme,THERE,perhaps,a", 'acme,"x"y,,', "acme,unread,,"]
    file.write_text("\n".join(["contact_center,user_name,enabled,identities", *rows]))
    assert refused(run, file) == [
        "line 3, row",
        "line 4, contact_center",
        "line 4, user_name",
        "line 5, enabled",
        "line 5, contact_center",
        "line 6, enabled",
        "line 6, identities",
        "line 6, user_name",
        "line 7, row",
    ]
    assert [account.user_name for account in accounts_of(app).list()] == ["there"]
    file.write_text("contact_center,user_name,enabled,identities\nacme,good,,\n")
    assert run("accounts", "import", str(file)).exit_code == 0


def test_all_problems_of_json_are_listed(run: Invoke, app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    file.write_text(
        '[\n1,\n{"contact_center": 1},\n{"contact_center": "nowhere", "user_name": "a:b", "\\ud800": 1}\n{}]'
    )
    assert refused(run, file) == [
        "line 2, row",
        "line 3, contact_center",
        "line 3, user_name",
        "line 4, '\\ud800'",
        "line 4, user_name",
        "line 4, contact_center",
        "line 4, file",
    ]
    assert accounts_of(app).list() == []


@pytest.mark.parametrize(
    "twice", ['"user_name": "eve", "user_name": "ann"', '"user_name": "ann", "identities": {"okta": "1", "okta": "2"}']
)
def test_duplicate_keys_are_refused(run: Invoke, app: Flask, tmp_path: Path, twice: str) -> None:
    file = tmp_path / "people.json"
    file.write_text(f'[{{"contact_center": "acme", {twice}}}]')
    assert "is repeated" in one_line(run("accounts", "import", str(file)))
    assert accounts_of(app).list() == []
    file.write_text('[{"contact_center": "acme", "user_name": "ann", "identities": {"okta": ["1", "2"]}}]')
    assert run("accounts", "import", str(file)).exit_code == 0


def test_a_missing_file_is_a_usage_error(run: Invoke, tmp_path: Path) -> None:
    assert run("accounts", "import", str(tmp_path / "none.csv")).exit_code == 2


def people(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "people.json"
    file.write_text(json.dumps([{"contact_center": "acme", **row} for row in rows]), encoding="utf-8")
    return str(file)


def test_a_dry_run_checks_all_and_writes_nothing(run: Invoke, app: Flask, tmp_path: Path) -> None:
    good = people(tmp_path, {"user_name": "ann"}, {"user_name": "bob", "password": "bob's password"})
    assert run("accounts", "import", "--dry-run", good).output == "2 accounts can be added; nothing was written.\n"
    assert accounts_of(app).list() == []
    assert run("accounts", "import", good).output == "Added 2 accounts.\n"
    again = run("accounts", "import", "--dry-run", good)
    assert (again.exit_code, "line 1, user_name: acme already has 'ann'" in again.output) == (1, True)


def test_json_lists_results_and_problems(run: Invoke, app: Flask, tmp_path: Path) -> None:
    good = people(tmp_path, {"user_name": "ann"})
    dry = json.loads(run("accounts", "import", "--dry-run", "--json", good).output)
    assert dry == {"added": 0, "checked": 1, "dry_run": True, "problems": []}
    done = json.loads(run("accounts", "import", "--json", good).output)
    assert done == {"added": 1, "checked": 1, "dry_run": False, "problems": []}
    refused = run("accounts", "import", "--json", people(tmp_path, {"user_name": "a:b", "password": "geheim"}))
    assert refused.exit_code == 1
    (problem,) = json.loads(refused.output)["problems"]
    assert (problem["line"], problem["field"], "colon" in problem["finding"]) == (1, "user_name", True)
    assert "geheim" not in refused.output


def test_the_progress_bar_needs_a_terminal(
    run: Invoke, main: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def import_on(stderr: io.StringIO, user_name: str) -> str:
        monkeypatch.setattr(sys, "stderr", stderr)
        main("accounts", "import", people(tmp_path, {"user_name": user_name, "password": "geheim"}))
        return stderr.getvalue()

    shown = import_on(Terminal(), "ann")
    assert "Hashing passwords" in shown
    assert "100%" in shown
    assert import_on(io.StringIO(), "bob") == ""


def test_a_concurrent_account_stops_the_import(app: Flask, run: Invoke, tmp_path: Path) -> None:
    file = Path(people(tmp_path, *({"user_name": f"agent{place}"} for place in range(1200))))
    store = accounts_of(app)

    def meanwhile(place: int, total: int) -> None:
        assert total == 1200
        if place == total:
            store.add("acme", "AGENT1100")

    with pytest.raises(AccountError, match="already has an account 'agent1100'"):
        import_file(file, store, {"acme": 1}, str, progress=meanwhile)
    assert store.count() == {"acme": 1}


def test_problems_have_the_line_of_their_element(run: Invoke, app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    row = '{"contact_center":\n"acme", "user_name":"%s"}'
    file.write_text(f" \n[ {row % 'ann'}\n\n, {row % 'bob'},{row % 'eve'} ]\n\n")
    assert [entry.line for entry in read_file(file)] == [2, 5, 6]
    assert run("accounts", "import", str(file)).output == "Added 3 accounts.\n"


def test_duplicate_columns_are_refused(run: Invoke, app: Flask, tmp_path: Path) -> None:
    ann = {"contact_center": "acme", "user_name": "ann", "identities": {"okta": "1"}}
    file = tmp_path / "people.json"
    file.write_text(json.dumps([ann, ann]))
    output = run("accounts", "import", str(file)).output
    assert "line 1, user_name: 'ann' is on line 1 as well" in output
    assert "line 1, identities: okta=1 is on line 1 as well" in output
    assert accounts_of(app).list() == []
    file.write_text(json.dumps([ann]))
    assert run("accounts", "import", str(file)).exit_code == 0
