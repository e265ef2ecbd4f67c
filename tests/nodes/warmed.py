"""The sample application, after it has served requests of every kind: with ``--preload`` that is before the fork.

So there are connections, remembered credentials and keys in the process that forks, which no worker may have from it.
``GET /process`` tells what a worker has.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import Any

from flask import Flask

import sample_app
from flask_genesys_auth import unprotected
from flask_genesys_auth.web.runtime import runtime

from .client import SAME_ORIGIN
from .load import ME

WARM = "TESTS_WARM"
"""The environment variable with what is asked first: headers of good credentials, and who logs in by the form."""


def create_app() -> Flask:
    app: Flask = sample_app.create_app()

    @app.get("/process")
    @unprotected
    def process() -> dict[str, Any]:
        verified = runtime().chain._verified
        key: bytes = vars(verified)["_key"].digest()
        return {"pid": os.getpid(), "key": sha256(key).hexdigest(), "remembered": len(vars(verified)["_entries"])}

    order = json.loads(os.environ[WARM])
    client = app.test_client()
    for headers in order["headers"]:
        assert client.get(ME, headers=headers, base_url="https://portal.acme.example").status_code == 200
    form = {"user_name": order["user_name"], "password": order["password"]}
    sent = client.post("/login", data=form, headers=SAME_ORIGIN, base_url="https://portal.acme.example")
    assert sent.status_code == 303
    assert client.get(ME, base_url="https://portal.acme.example").status_code == 200
    return app
