"""How many files of the package a Basic request passes through, from the first hook to the last.

Run with ``python -m benchmarks.files_per_request``; in-process WSGI, all as by default: SQLite state and accounts. A
file counts if one of its functions is called, but not if it is only imported.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from flask import Flask

import flask_genesys_auth
from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.web.runtime import runtime

PACKAGE = Path(flask_genesys_auth.__file__).parent
TARGETS = {"remembered": 12, "cold": 18}
"""The most files that a request of each kind should pass through."""
PASSWORDS = {"ann@acme.example": "ann's password", "bob@acme.example": "bob's password"}


@dataclass
class Passage:
    """The files that a request passed through, in the order of the first call, and how often the file changed."""

    files: list[str] = field(default_factory=list)
    changes: int = 0


@contextmanager
def followed() -> Iterator[Passage]:
    """Note each file of the package in which a function is called."""
    passage = Passage()
    former = sys.getprofile()
    last = ""

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal last
        path = Path(frame.f_code.co_filename)
        if event != "call" or PACKAGE not in path.parents:
            return
        name = path.relative_to(PACKAGE).as_posix()
        if name not in passage.files:
            passage.files.append(name)
        passage.changes += name != last
        last = name

    sys.setprofile(note)
    try:
        yield passage
    finally:
        sys.setprofile(former)


def application(folder: Path) -> Flask:
    """Return an application with two accounts."""
    app = Flask("counted", instance_path=str(folder))
    app.secret_key = "the benchmark's own"  # noqa: S105 - it guards nothing
    app.config["GENESYS_AUTH"] = {
        "contact_centers": {"acme": {"web_services": {}}},
        "passwords": {"reuse_verified_for": 300},
    }
    GenesysAuth(app)
    app.add_url_rule("/", view_func=lambda: current_user.user_name)
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    store.create_tables()
    for name, password in PASSWORDS.items():
        store.set_password(store.add("acme", name).id, runtime(app).hasher.hash(password))
    return app


def count(app: Flask) -> dict[str, Passage]:
    """Return the files that a request passes through with cached credentials, and without."""
    client = app.test_client()

    def ask(user: str) -> Passage:
        with followed() as passage:
            answer = client.get("/", auth=(user, PASSWORDS[user]))
        if answer.text != user:
            raise SystemExit(f"{answer.status} {answer.text!r} instead of {user!r}")
        return passage

    # The first request of a process also works out policies, checks tables and opens connections.
    ask("bob@acme.example")
    cold = ask("ann@acme.example")
    return {"remembered": ask("ann@acme.example"), "cold": cold}


def main(arguments: list[str] | None = None) -> int:
    """Count and print; 1 where there are more files than there should be."""
    parser = argparse.ArgumentParser(description="How many files of the package a Basic request passes through.")
    parser.add_argument("--json", action="store_true", help="print files and counts as JSON")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        app = application(Path(folder))
        counted = count(app)
        here = runtime(app)
        here.state.close()
        if isinstance(here.accounts, SqlAccounts):
            here.accounts.close()
    if chosen.json:
        rows = {kind: {"files": one.files, "changes": one.changes} for kind, one in counted.items()}
        print(json.dumps(rows, indent=2))
    else:
        for kind, one in counted.items():
            verdict = "met" if len(one.files) <= TARGETS[kind] else "MISSED"
            print(
                f"{kind}: {len(one.files)} files, target <= {TARGETS[kind]}, {verdict}; {one.changes} changes of file"
            )
            print("".join(f"  {name}\n" for name in one.files))
    return 0 if all(len(one.files) <= TARGETS[kind] for kind, one in counted.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
