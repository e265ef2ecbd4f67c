"""The JSON API in the Web Services envelope: ``{"statusCode": 0, ...}``; errors have a ``statusMessage``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, jsonify, request

from flask_genesys_auth import GenesysAuth, current_decision, current_user, protected, roles_required, unprotected

END_SESSION = "EndContactCenterSession"


def create_blueprint(auth: GenesysAuth, *, demonstration: bool) -> Blueprint:
    """Return the blueprint of the API.

    :param demonstration: show the walk of a request to all clients, not only to ``ROLE_ADMIN``.
    """
    api = Blueprint("api", __name__)

    @api.get("/healthz")
    @unprotected
    def healthz() -> dict[str, Any]:
        return {"statusCode": 0}

    @api.get("/api/v2/diagnostics/version")
    @unprotected
    def show_version() -> dict[str, Any]:
        return {"statusCode": 0, "version": version("flask-genesys-auth")}

    @api.get("/api/v2/me")
    @protected
    def me() -> dict[str, Any]:
        return {"statusCode": 0, "user": _user()}

    @api.post("/api/v2/me")
    @protected
    def operate() -> tuple[Response, int]:
        return _operate(auth)

    def walk() -> dict[str, Any]:
        return _walk()

    mark = unprotected if demonstration else roles_required("ROLE_ADMIN")
    api.add_url_rule("/api/v2/diagnostics/walk", view_func=mark(walk))
    return api


def _user() -> dict[str, Any]:
    path = f"/users/{current_user.id}"
    return {
        "id": current_user.id,
        "userName": current_user.user_name,
        "firstName": current_user.first_name,
        "lastName": current_user.last_name,
        "roles": sorted(current_user.roles),
        "enabled": current_user.is_active,
        "changePasswordOnFirstLogin": False,
        "uri": f"/api/v2{path}",
        "path": path,
    }


def _operate(auth: GenesysAuth) -> tuple[Response, int]:
    sent = request.get_json(silent=True)
    operation = sent.get("operationName") if isinstance(sent, dict) else None
    if operation is None:
        return jsonify(statusCode=1, statusMessage="Missing parameter: operationName"), 400
    if operation != END_SESSION:
        return jsonify(statusCode=10, statusMessage=f"Unknown operationName; known is {END_SESSION}"), 400
    auth.logout()
    return jsonify(statusCode=0), 200


def _walk() -> dict[str, Any]:
    steps = [{key: row[key] for key in row if key != "detail"} for row in current_decision.explain()]
    return {
        "statusCode": 0,
        "contactCenter": current_decision.contact_center,
        "authenticated": current_decision.authenticated,
        "authenticatedBy": current_decision.authenticated_by,
        "resumed": current_decision.resumed,
        "steps": steps,
    }
