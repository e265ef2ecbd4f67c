"""A small portal: users see the calls, supervisors see the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, redirect, request
from werkzeug.wrappers import Response

from flask_genesys_auth import GenesysAuth, current_user, roles_required, unprotected

auth = GenesysAuth()


def create_app(configuration: Mapping[str, Any]) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(configuration)
    auth.init_app(app)

    @app.get("/calls")
    def calls() -> str:
        return f"Calls of {current_user.user_name}"

    @app.get("/reports")
    @roles_required("ROLE_SUPERVISOR")
    def reports() -> str:
        return "Reports"

    @app.post("/login")
    @unprotected
    def log_in() -> Response | tuple[str, int]:
        decision = auth.log_in_with_password(request.form["user_name"], request.form["password"])
        return redirect("/calls", 303) if decision.authenticated else ("Try again", 401)

    return app
