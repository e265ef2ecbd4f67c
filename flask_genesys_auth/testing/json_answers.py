"""Answers in JSON, without an application."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Response


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(json.dumps(value), status, content_type="application/json;charset=UTF-8")
