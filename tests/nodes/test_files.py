"""The files of the deployment, where no engine runs them: what they name is there, and what they set is known."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.config import make_settings

from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.web.runtime import runtime
from sample_app.application import build_app, read_configuration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = ("node1", "node2")
ASKED = re.compile(r"\$\{(?P<name>[A-Z_]+):\?(?P<why>[^}]+)\}")
GIVEN = {
    "PORTAL_SECRET_KEY": "k" * 43,
    "PORTAL_HOST": "portal.acme.example",
    "PORTAL_TLS": "/etc/portal/tls",
    "POSTGRES_PASSWORD": "postgres",
    "REDIS_PASSWORD": "redis",
}


def interpolated(text: str) -> str:
    return ASKED.sub(lambda found: GIVEN[found["name"]], text)


def test_services_are_complete_and_refer_to_defined_names() -> None:
    assert set(SERVICES) == {"nginx", *NODES, "tables", "postgres", "redis"}
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for wanted in service.get("depends_on", {}).values():
            assert wanted["condition"] in {"service_healthy", "service_completed_successfully"}
    for name in ("nginx", *NODES):
        for needed, wanted in SERVICES[name]["depends_on"].items():
            assert wanted["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]


def test_only_nginx_publishes_ports_and_stores_are_internal() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["inside"]


def test_mounts_and_build_files_exist_or_are_configured() -> None:
    for service in SERVICES.values():
        for mounted in service.get("volumes", ()):
            source, _, _ = ASKED.sub(lambda found: found["name"], mounted).partition(":")
            assert source in GIVEN or source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    build = SERVICES["node1"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_every_secret_is_required_without_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == set(GIVEN)
    assert len(ASKED.findall(text)) == text.count("${")


def test_the_two_nodes_are_the_same() -> None:
    assert SERVICES["node1"] == SERVICES["node2"]


def test_environment_of_a_node_builds_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = SERVICES["node1"]["environment"]
    assert SERVICES["tables"]["environment"] == given
    for key, value in given.items():
        assert key == "FLASK_SECRET_KEY" or key.startswith("FLASK_GENESYS_AUTH__")
        monkeypatch.setenv(key, interpolated(value))
    app = build_app(read_configuration(DEPLOY / "portal.toml"), tmp_path)
    assert app.config["SESSION_COOKIE_SECURE"] is True
    assert app.test_client().get("/healthz").status_code == 200
    # An unknown key is refused with its name.
    found = runtime(app).settings
    assert found.public_url == "https://portal.acme.example"
    assert found.state_url == found.throttle.storage_url == "redis://:redis@redis:6379/0"
    assert found.accounts_url == "postgresql+psycopg://portal:postgres@postgres:5432/portal"


def test_an_unknown_key_would_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", GIVEN["PORTAL_SECRET_KEY"])
    monkeypatch.setenv("FLASK_GENESYS_AUTH__STATE_ADDRESS", "memory://")
    with pytest.raises(ConfigurationError, match="STATE_ADDRESS"):
        build_app(read_configuration(DEPLOY / "portal.toml"), tmp_path)


def test_dockerfile_copies_existing_files_and_starts_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    written = (DEPLOY / "Dockerfile").read_text("utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", written, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
    (command,) = re.findall(r"^CMD \[(.+)\]$", written, re.MULTILINE)
    words = [word.strip().strip('"') for word in command.split(",")]
    assert "deploy/gunicorn.conf.py" in written
    monkeypatch.setattr(sys, "argv", [word.replace("gunicorn.conf.py", f"{DEPLOY}/gunicorn.conf.py") for word in words])
    told = WSGIApplication("%(prog)s")
    assert (told.app_uri, told.cfg.worker_class_str) == ("sample_app:create_app()", "gthread")
    assert told.cfg.graceful_timeout < int(SERVICES["node1"]["stop_grace_period"].removesuffix("s"))


def test_gunicorn_is_told_only_what_it_knows() -> None:
    told = {
        target.id
        for node in ast.parse((DEPLOY / "gunicorn.conf.py").read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    # What it does not know it would pass over in silence.
    assert told <= set(make_settings())


def test_health_checks_ask_programs_that_their_images_have() -> None:
    programs = {
        name: service["healthcheck"]["test"][1] for name, service in SERVICES.items() if "healthcheck" in service
    }
    assert programs == {"node1": "python", "node2": "python", "postgres": "pg_isready", "redis": "redis-cli"}


def test_nginx_is_given_every_name_of_its_template() -> None:
    named = set(re.findall(r"\$\{([A-Z_0-9]+)\}", (DEPLOY / "nginx" / "portal.conf.template").read_text("utf-8")))
    assert named == set(SERVICES["nginx"]["environment"])


def test_the_page_names_what_must_be_given() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    assert [name for name in GIVEN if f"`{name}`" not in page] == []
