"""The sample application, after it has served requests of every kind: before the fork, if the master loads it.

So the process that forks has open connections and remembers credentials. No worker may inherit them.
``GET /process`` answers the worker's process id.
"""

from __future__ import annotations

import json
import os

from flask import Flask

import sample_app
from flask_genesys_auth import unprotected

from .client import SAME_ORIGIN
from .load import ME

WARM = "TESTS_WARM"
"""The environment variable with what is asked first: headers of good credentials, and who logs in by the form."""


def create_app() -> Flask:
    app: Flask = sample_app.create_app()

    @app.get("/process")
    @unprotected
    def process() -> dict[str, int]:
        return {"pid": os.getpid()}

    order = json.loads(os.environ[WARM])
    client = app.test_client()
    for headers in order["headers"]:
        assert client.get(ME, headers=headers, base_url="https://portal.acme.example").status_code == 200
    form = {"user_name": order["user_name"], "password": order["password"]}
    sent = client.post("/login", data=form, headers=SAME_ORIGIN, base_url="https://portal.acme.example")
    assert sent.status_code == 303
    assert client.get(ME, base_url="https://portal.acme.example").status_code == 200
    return app
