"""A process with its own application that receives several requests at once; run as a program.

It reads its order as one line of JSON, says that it is ready, waits for a second line, and tells what was answered.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts

from .addresses import PUBLIC_URL

PATIENCE = 60.0
"""Seconds for which a request waits, at most, while the others write into the same file."""


def make_app(settings: dict[str, Any]) -> Flask:
    """The same application in every process.

    :param settings: ``state`` and ``accounts``, addresses of SQLite files; ``metadata`` of the provider.
    """
    app = Flask("desk")
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {
        "state_url": settings["state"],
        "state_timeout": PATIENCE,
        "contact_centers": {
            "acme": {
                "public_url": PUBLIC_URL,
                "saml": {"identity_providers": {"okta": {"metadata": settings["metadata"]}}},
            }
        },
    }
    GenesysAuth(app, accounts=SqlAccounts(settings["accounts"], timeout=PATIENCE))
    app.add_url_rule("/private", "private", lambda: current_user.user_name)
    return app


def send(client: FlaskClient, wanted: dict[str, Any]) -> tuple[int, str, bool]:
    """Send a request; return status, Location, and whether a cookie was set."""
    headers = {"Cookie": wanted["cookie"]} if "cookie" in wanted else {}
    answer = client.open(
        wanted["path"], method=wanted["method"], base_url=PUBLIC_URL, data=wanted.get("data"), headers=headers
    )
    return answer.status_code, answer.headers.get("Location", ""), "Set-Cookie" in answer.headers


def main() -> None:
    order = json.loads(sys.stdin.readline())
    app = make_app(order["settings"])
    together = threading.Barrier(order["threads"] + 1)
    answers: list[tuple[int, str, bool]] = []

    def run() -> None:
        client = app.test_client(use_cookies=False)
        together.wait()
        answers.append(send(client, order["request"]))

    threads = [threading.Thread(target=run) for _ in range(order["threads"])]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    together.wait()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
