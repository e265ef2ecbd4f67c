"""``saml metadata``, ``saml refresh`` and ``saml keygen``."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flask import Flask

from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.saml.keys import der_of, fingerprint
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key
from flask_genesys_auth.web.runtime import runtime
from tests.cli.conftest import accounts_of, make_app, one_line
from tests.saml.provider_site import Clock, Site, age_metadata_by, keys_after_looking, metadata_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLIC_URL = "https://portal.acme.example"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return generate_signing_key("the provider")


@pytest.fixture(scope="module")
def other_key() -> SigningKey:
    return generate_signing_key("its next one")


@pytest.fixture
def site(key: SigningKey) -> Iterator[Site]:
    site = Site(metadata_of(key))
    with site.serve():
        yield site
        site.repair()


class Shell:
    """Runs commands, each in an application of its own, as each is a process of its own."""

    def __init__(self, folder: Path, centers: dict[str, Any], **settings: Any) -> None:
        self._folder = folder
        self._settings = {"contact_centers": centers, "public_url": PUBLIC_URL, **settings}

    def app(self) -> Flask:
        return make_app(self._folder, **self._settings)

    def __call__(self, *args: str) -> Result:
        app = self.app()
        try:
            return app.test_cli_runner().invoke(genesys_auth, args=["saml", *args])
        finally:
            runtime(app).state.close()
            accounts_of(app).close()


def providers(**metadata: str) -> dict[str, Any]:
    return {"saml": {"identity_providers": {name: {"metadata": where} for name, where in metadata.items()}}}


@pytest.fixture
def shell(tmp_path: Path, site: Site, key: SigningKey) -> Shell:
    file = tmp_path / "idp.xml"
    file.write_text(metadata_of(key))
    centers = {"acme": providers(okta=site.address, adfs=str(file)), "globex": {"web_services": {}}}
    return Shell(tmp_path, centers, default_contact_center="acme")


def test_our_metadata_are_printed_without_network_access(shell: Shell, site: Site) -> None:
    for args in ((), ("acme",)):
        printed = shell("metadata", *args)
        assert printed.exit_code == 0
        assert printed.output.startswith("<?xml")
        assert f'entityID="{PUBLIC_URL}/saml/acme/metadata"' in printed.output
    assert site.asked == 0


def test_an_unknown_contact_center_is_an_error(shell: Shell, tmp_path: Path, site: Site) -> None:
    for command in ("metadata", "refresh"):
        assert "contact center 'globex' has no saml table; with SAML: acme" in one_line(shell(command, "globex"))
    hosts = {"acme": "portal.acme.example", "globex": "portal.globex.example"}
    both = {
        name: {**providers(okta=site.address), "hosts": [host], "public_url": f"https://{host}"}
        for name, host in hosts.items()
    }
    several = Shell(tmp_path / "several", both, default_contact_center="acme")
    assert "several contact centers have SAML; name one of: acme, globex" in one_line(several("metadata"))
    assert several("metadata", "globex").exit_code == 0
    none = Shell(tmp_path / "none", {"acme": {"web_services": {}}}, public_url="")
    assert "no contact center has a saml table" in one_line(none("metadata"))


def rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["provider"]: row for row in json.loads(result.output)}


def names(listed: list[dict[str, Any]]) -> list[str]:
    return [one["sha256"] for one in listed]


def of(key: SigningKey) -> str:
    return fingerprint(der_of(key.certificate_pem))


def test_refresh_prints_the_changes(shell: Shell, site: Site, key: SigningKey, other_key: SigningKey) -> None:
    first = rows(shell("refresh", "--json"))
    assert (names(first["okta"]["added"]), names(first["adfs"]["kept"])) == ([of(key)], [of(key)])
    assert {row["ok"] for row in first.values()} == {True}
    site.document = metadata_of(key, other_key)
    second = rows(shell("refresh", "acme", "--provider", "okta", "--json"))
    assert set(second) == {"okta"}
    assert (names(second["okta"]["added"]), names(second["okta"]["kept"])) == ([of(other_key)], [of(key)])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", second["okta"]["added"][0]["ends"])
    site.document = metadata_of(other_key, valid_until=4e9)
    printed = shell("refresh", "--provider", "okta").output
    assert f"certificate removed: {of(key)}" in printed
    assert f"certificate kept: {of(other_key)}" in printed
    assert "valid until 2096-" in printed
    assert "unchanged" in shell("refresh", "--provider", "okta").output


def test_running_processes_read_new_metadata_from_the_state(
    shell: Shell, site: Site, key: SigningKey, other_key: SigningKey
) -> None:
    app, clock = shell.app(), Clock(time.time())
    age_metadata_by(clock, app)
    running = runtime(app).saml.service_providers["acme"].providers["okta"]
    assert set(running.current().metadata.certificates) == {der_of(key.certificate_pem)}
    site.document = metadata_of(other_key)
    assert shell("refresh").exit_code == 0
    asked = site.asked
    clock.pass_(60)
    assert keys_after_looking(running) == {der_of(other_key.certificate_pem)}
    assert site.asked == asked
    runtime(app).state.close()
    accounts_of(app).close()


def test_a_failed_refresh_keeps_the_old_metadata(
    shell: Shell, site: Site, key: SigningKey, other_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    assert shell("refresh").exit_code == 0
    site.fail(503)
    failed = shell("refresh")
    assert failed.exit_code == 1
    assert (
        "failed: the server answered HTTP 503 (Service Unavailable); the last valid copy remains in use"
        in failed.output
    )
    assert "acme/adfs" in failed.output
    assert caplog.records == []
    printed = shell("refresh", "--json")
    assert printed.exit_code == 1
    assert (rows(printed)["okta"]["ok"], rows(printed)["adfs"]["ok"]) == (False, True)
    assert shell("refresh", "--provider", "adfs").exit_code == 0
    site.repair()
    site.document = metadata_of(other_key)
    assert names(rows(shell("refresh", "--json"))["okta"]["removed"]) == [of(key)]


def test_an_unknown_provider_is_an_error(shell: Shell) -> None:
    assert "unknown identity provider 'ping'; configured: adfs, okta" in one_line(
        shell("refresh", "--provider", "ping")
    )


def test_a_state_in_memory_is_reported(tmp_path: Path, site: Site) -> None:
    in_memory = Shell(tmp_path, {"acme": providers(okta=site.address)}, state_url="memory://")
    assert "fetch it at their next metadata_refresh" in in_memory("refresh").output
    assert not rows(in_memory("refresh", "--json"))["okta"]["shared"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / 'a "folder" \U0001f511' / "sp.key", tmp_path / "sp.crt"


def keygen(shell: Shell, places: tuple[Path, Path], *more: str) -> Result:
    return shell("keygen", "--out-key", str(places[0]), "--out-cert", str(places[1]), *more)


def test_a_generated_key_pair_can_be_configured(
    shell: Shell, places: tuple[Path, Path], tmp_path: Path, site: Site
) -> None:
    places[0].parent.mkdir()
    umask = os.umask(0)
    try:
        made = keygen(shell, places, "--name", "Acme", "--days", "30", "--bits", "2048")
    finally:
        os.umask(umask)
    assert made.exit_code == 0
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o600, 0o644]
    private = load_pem_private_key(places[0].read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(places[1].read_bytes())
    assert certificate.public_key() == private.public_key()
    assert certificate.subject.rfc4514_string() == "CN=Acme"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
    assert "PRIVATE" not in made.output
    lines = [line for line in made.output.splitlines() if line.startswith(("signing_", "encryption_"))]
    table = {**tomllib.loads("\n".join(lines)), **providers(okta=site.address)["saml"]}
    configured = Shell(tmp_path / "configured", {"acme": {"saml": {**table, "sign_metadata": True}}})
    printed = configured("metadata")
    assert printed.exit_code == 0
    assert printed.output.count('use="signing"') == printed.output.count('use="encryption"') == 1
    assert "SignatureValue" in printed.output


def test_existing_files_are_never_overwritten(shell: Shell, places: tuple[Path, Path], tmp_path: Path) -> None:
    places[0].parent.mkdir()
    for place, other in (places, places[::-1]):
        place.write_text("precious")
        assert one_line(keygen(shell, places)).endswith("exists and is not overwritten")
        assert place.read_text() == "precious"
        assert not other.exists()
        place.unlink()
    target = tmp_path / "elsewhere"
    places[0].symlink_to(target)
    assert one_line(keygen(shell, places)).endswith("exists and is not overwritten")
    assert not target.exists()
    places[0].unlink()
    assert keygen(shell, places, "--bits", "2048").exit_code == 0


def test_an_unwritable_folder_is_an_error(shell: Shell, places: tuple[Path, Path]) -> None:
    assert "cannot be written: No such file or directory" in one_line(keygen(shell, places))
    assert not places[1].exists()
    assert "cannot be written: No such file or directory" in one_line(keygen(shell, places[::-1]))
    assert not places[1].exists()


def test_a_full_disk_leaves_no_files(shell: Shell, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    places[0].parent.mkdir()
    # Linux answers every write to this device with "No space left on device".
    open_ = os.open

    def full(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = open_(path, flags, mode)
        if path == places[0]:
            os.close(descriptor)
            return open_("/dev/full", os.O_WRONLY)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        failed = keygen(shell, places, "--bits", "2048")
    assert "cannot be written: No space left on device" in one_line(failed)
    assert [place.exists() for place in places] == [False, False]


@pytest.mark.parametrize("name", ["", "a" * 65, "a\nb"])
def test_invalid_common_names_are_an_error(shell: Shell, places: tuple[Path, Path], name: str) -> None:
    places[0].parent.mkdir()
    assert "--name: must have 1 to 64 printable characters" in one_line(keygen(shell, places, "--name", name))
    assert not places[0].exists()
    assert keygen(shell, places, "--name", "a" * 64, "--bits", "2048").exit_code == 0


def test_one_file_for_both_is_an_error(shell: Shell, places: tuple[Path, Path]) -> None:
    assert "name the same file" in one_line(keygen(shell, (places[1], places[1])))
    assert not places[1].exists()


def test_commands_without_saml_import_no_saml_libraries() -> None:
    program = (
        "import sys, flask_genesys_auth.cli\n"
        "print([name for name in ('lxml', 'xmlsec', 'onelogin', 'cryptography') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
