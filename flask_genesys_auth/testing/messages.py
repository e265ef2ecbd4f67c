"""What emulators and clients say in HTTP: answers in JSON, Basic credentials."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.datastructures import Authorization
from werkzeug.wrappers import Response


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(json.dumps(value), status, content_type="application/json;charset=UTF-8")


def basic_authorization(user_name: str, password: str) -> str:
    """Return the value of an ``Authorization`` header (RFC 7617), in UTF-8."""
    return Authorization("basic", {"username": user_name, "password": password}).to_header()
