"""Health checks of the configuration and its files: each finding beside a configuration without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.checks import absent_file_check, clock_check, file_checks
from flask_genesys_auth.config.health import configuration_checks, files_checks

from .conftest import Load, Mapping

GENESYS = {"client_id": "portal", "client_secret": "x"}


def troubles(load: Load, mapping: Mapping) -> dict[str, str]:
    found = [check for check in configuration_checks(load(mapping)) if check.status != "ok"]
    assert all(check.advice for check in found)
    return {check.name: check.status for check in found}


def test_plain_configuration_has_no_findings(load: Load, folder: Path) -> None:
    settings = load({"contact_centers": {"acme": {"web_services": {}}}, "default_contact_center": "acme"})
    checks = {check.name: check for check in configuration_checks(settings)}
    assert {check.status for check in checks.values()} == {"ok"}
    assert checks["configuration.contact_centers"].finding == "1 configured: acme; the default is acme"
    assert str(folder) in checks["configuration.base_path"].finding


def test_missing_base_path_is_a_warning(load: Load) -> None:
    mapping = {"base_path": "nowhere", "contact_centers": {"acme": {"web_services": {}}}}
    assert troubles(load, mapping) == {"configuration.base_path": "warning"}


def test_unprotected_default_is_a_warning(load: Load) -> None:
    mapping = {"protect_by_default": False, "contact_centers": {"acme": {"web_services": {}}}}
    assert troubles(load, mapping) == {"configuration.protect_by_default": "warning"}


@pytest.mark.parametrize(
    ("root", "center", "key"),
    [
        ({"public_url": "http://app.example", "allow_http": True}, {}, "public_url"),
        ({}, {"public_url": "http://app.example", "allow_http": True}, "contact_centers.acme.public_url"),
        ({}, {"allowed_origins": ["http://a.example"], "allow_http": True}, "contact_centers.acme.allowed_origins"),
        (
            {},
            {
                "salesforce": {
                    "organizations": ["00D000000000001"],
                    "identity_hosts": ["http://a.example"],
                    "allow_http": True,
                }
            },
            "contact_centers.acme.salesforce.identity_hosts",
        ),
        (
            {},
            {"configuration_server": {**GENESYS, "url": "http://gws.example", "allow_http": True}},
            "contact_centers.acme.configuration_server.url",
        ),
    ],
)
def test_plain_http_to_another_host_is_a_warning(load: Load, root: Mapping, center: Mapping, key: str) -> None:
    mapping: dict[str, Any] = {**root, "contact_centers": {"acme": {"web_services": {}, **center}}}
    assert troubles(load, mapping) == {f"configuration.{key}.allow_http": "warning"}
    assert troubles(load, _by_https(mapping)) == {}


PG = "postgresql+psycopg://portal:s3cret@"
VERIFIED = "sslmode=verify-full&sslrootcert=/etc/ca.pem"


@pytest.mark.parametrize(
    ("key", "open_", "well"),
    [
        ("state_url", "redis://:s3cret@redis.internal:6379/0", "rediss://:s3cret@redis.internal:6379/0"),
        ("state_url", "redis://:s3cret@10.0.0.7/0", "redis://:s3cret@127.0.0.1/0"),
        ("state_url", "redis://[2001:db8::7]:6379/0", "redis://[::1]:6379/0"),
        ("state_url", "redis+sentinel://:s3cret@127.0.0.1,s2.internal/portal/0", "unix://:s3cret@/run/redis.sock?db=0"),
        ("state_url", "redis+sentinel://:s3cret@s1.internal/portal", "redis+sentinel://:s3cret@[::1]:26379/portal"),
        ("throttle.storage_url", "redis+sentinel://[2001:db8::7]/portal", "unix:///run/redis.sock"),
        ("throttle.storage_url", "redis://redis.internal/1", "rediss://redis.internal/1"),
        ("throttle.storage_url", "redis://redis.internal/1", "redis://localhost/1"),
        ("state_url", f"{PG}db.internal/portal", f"{PG}db.internal/portal?{VERIFIED}"),
        ("state_url", f"{PG}db.internal/portal", f"{PG}localhost/portal"),
        ("state_url", f"{PG}10.0.0.7:5432/portal", f"{PG}127.0.0.2:5432/portal"),
        ("accounts_url", f"{PG}db.internal/portal?sslmode=require", f"{PG}db.internal/portal?{VERIFIED}"),
        ("accounts_url", f"{PG}db.internal/portal?sslmode=verify-ca", f"{PG}/portal?host=/var/run/postgresql"),
        ("accounts_url", f"{PG}/portal?host=db.internal", f"{PG}/portal"),
        ("accounts_url", f"{PG}/portal?host=127.0.0.1:5432&host=db.internal:5432", f"{PG}/portal?host=127.0.0.1:5432"),
        ("accounts_url", f"{PG}localhost/portal?hostaddr=10.0.0.7", f"{PG}db.internal/portal?hostaddr=127.0.0.1"),
        ("accounts_url", f"{PG}db.internal/portal", "postgresql+psycopg:///portal?service=portal"),
    ],
)
def test_remote_store_without_verified_tls_is_a_warning(
    load: Load, monkeypatch: pytest.MonkeyPatch, key: str, open_: str, well: str
) -> None:
    for variable in ("PGHOST", "PGHOSTADDR", "PGSSLMODE"):
        monkeypatch.delenv(variable, raising=False)

    def mapping(url: str) -> Mapping:
        table, _, below = key.partition(".")
        return {table: {below: url} if below else url, "contact_centers": {"acme": {"web_services": {}}}}

    assert troubles(load, mapping(open_)) == {f"configuration.{key}.tls": "warning"}
    assert "s3cret" not in str(list(configuration_checks(load(mapping(open_)))))
    assert troubles(load, mapping(well)) == {}
    if key != "throttle.storage_url" and well.startswith("postgresql"):
        # libpq's environment variables count as well.
        monkeypatch.setenv("PGSSLMODE", "verify-full")
        assert troubles(load, mapping(f"{PG}db.internal/portal")) == {}
        monkeypatch.setenv("PGSSLMODE", "require")
        monkeypatch.setenv("PGHOST", "db.internal")
        assert troubles(load, mapping(f"{PG}/portal")) == {f"configuration.{key}.tls": "warning"}


def _by_https(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_https(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_by_https(one) for one in value]
    return value.replace("http://", "https://") if isinstance(value, str) else value


def secret_file(load: Load, folder: Path) -> dict[str, str]:
    genesys = {**GENESYS, "url": "https://gws.example", "client_secret": {"file": "client-secret"}}
    settings = load({"contact_centers": {"acme": {"configuration_server": genesys}}})
    return {check.name: check.status for check in files_checks(settings)}


@pytest.mark.parametrize(
    ("mode", "status"), [(0o600, "ok"), (0o640, "ok"), (0o644, "failure"), (0o601, "failure"), (0o602, "failure")]
)
def test_world_readable_secret_is_a_failure(load: Load, folder: Path, mode: int, status: str) -> None:
    (folder / "client-secret").chmod(mode)
    name = "files.contact_centers.acme.configuration_server.client_secret"
    assert secret_file(load, folder) == {name: status}


@pytest.mark.parametrize(("mode", "status"), [(0o644, "ok"), (0o646, "failure")])
def test_world_writable_metadata_is_a_failure(tmp_path: Path, mode: int, status: str) -> None:
    file = tmp_path / "idp.xml"
    file.touch()
    file.chmod(mode)
    (check,) = file_checks("files.metadata", file, secret=False)
    assert check.status == status
    assert check.advice == ("" if status == "ok" else f"chmod o-w {file}")


@pytest.mark.parametrize(("mode", "status"), [(0o755, "ok"), (0o777, "failure"), (0o1777, "ok")])
def test_world_writable_folder_is_a_failure(tmp_path: Path, mode: int, status: str) -> None:
    file = tmp_path / "etc" / "sp.key"
    file.parent.mkdir()
    file.touch(0o600)
    file.parent.chmod(mode)
    (check,) = file_checks("files.key", file, secret=True)
    assert check.status == status


def test_missing_file_is_a_failure(tmp_path: Path) -> None:
    (check,) = file_checks("files.key", tmp_path / "sp.key", secret=True)
    assert (check.status, "No such file" in check.finding) == ("failure", True)


def test_file_named_twice_is_reported_once(load: Load, folder: Path) -> None:
    genesys = {**GENESYS, "url": "https://gws.example", "client_secret": {"file": "client-secret"}}
    centers = {name: {"configuration_server": genesys} for name in ("acme", "globex")}
    assert len(list(files_checks(load({"contact_centers": centers})))) == 1


def test_file_created_later_needs_a_folder(tmp_path: Path) -> None:
    assert absent_file_check("state.file", tmp_path / "new" / "state.sqlite3").status == "ok"
    (tmp_path / "file").touch()
    assert absent_file_check("state.file", tmp_path / "file" / "state.sqlite3").status == "failure"


@pytest.mark.parametrize(
    ("ahead", "status", "words"),
    [(1.5, "ok", "agree"), (-20.0, "warning", "20 s behind"), (61.0, "failure", "61 s ahead of")],
)
def test_clocks_are_compared(ahead: float, status: str, words: str) -> None:
    check = clock_check("saml.clock", "the provider", ahead, allowed=60)
    assert (check.status, words in check.finding) == (status, True)
