"""Certificates, proxy and concurrent calls of an upstream: each refused value beside an accepted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.config.addresses import Proxy
from flask_genesys_auth.config.settings import CONCURRENT_CALLS, ConfigurationServer, Salesforce, Settings

from .conftest import Load, Mapping, Refused

STEPS = ("salesforce", "configuration_server")
pytestmark = pytest.mark.parametrize("step", STEPS)


def with_way(step: str, **changes: Any) -> Mapping:
    tables: dict[str, Any] = {
        "salesforce": {"organizations": ["00D000000000001"]},
        "configuration_server": {
            "url": "https://gws.internal",
            "client_id": "portal",
            "client_secret": "cl13nt-s3cret",
        },
    }
    tables[step].update(changes)
    return {"contact_centers": {"acme": tables}}


def at(settings: Settings, step: str) -> Salesforce | ConfigurationServer:
    found = getattr(settings.contact_centers["acme"], step)
    assert isinstance(found, (Salesforce, ConfigurationServer))
    return found


def path(step: str, key: str) -> str:
    return f"contact_centers.acme.{step}.{key}"


def test_upstream_defaults(load: Load, step: str) -> None:
    found = at(load(with_way(step)), step)
    assert (found.ca_file, found.proxy, found.concurrent_calls) == ("", None, CONCURRENT_CALLS)


def test_only_the_certificates_of_a_file_are_read(
    load: Load, step: str, folder: Path, key_pair: tuple[str, str]
) -> None:
    private, certificate = key_pair
    (folder / "ca.pem").write_text(f"# caf\u00e9\n{certificate}between\n{private}{certificate}", "utf-8")
    for given in ("ca.pem", str(folder / "ca.pem"), folder / "ca.pem"):
        found = at(load(with_way(step, ca_file=given)), step)
        assert found.ca_file == f"{certificate.strip()}\n{certificate.strip()}"
    assert "BEGIN" not in repr(found)
    (folder / "ca.pem").unlink()
    assert found.ca_file.startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no certificate",
        b"\x30\x82\x01\x02\xff",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
    ids=["empty", "text", "DER", "no certificate in it", "no base64", "a key"],
)
def test_file_without_valid_certificates_is_refused(refused: Refused, step: str, folder: Path, content: bytes) -> None:
    file = folder / "ca.pem"
    file.write_bytes(content)
    assert refused(with_way(step, ca_file="ca.pem")) == [
        f"{path(step, 'ca_file')}: must name a file of valid certificates in PEM, not {file}"
    ]


def test_file_with_one_broken_certificate_is_refused(
    refused: Refused, load: Load, step: str, folder: Path, key_pair: tuple[str, str]
) -> None:
    lines = key_pair[1].splitlines()
    broken = "\n".join([lines[0], *lines[2:]])
    (folder / "ca.pem").write_text(key_pair[1] + broken)
    assert "must name a file of valid certificates" in refused(with_way(step, ca_file="ca.pem"))[0]
    (folder / "ca.pem").write_text(key_pair[1])
    load(with_way(step, ca_file="ca.pem"))


def test_missing_file_of_certificates_is_refused(refused: Refused, step: str, folder: Path) -> None:
    problems = refused(with_way(step, ca_file="missing.pem"))
    assert problems == [
        f"{path(step, 'ca_file')}: the file {folder / 'missing.pem'} does not exist: create it, or correct the path"
    ]
    assert refused(with_way(step, ca_file=7)) == [
        f"{path(step, 'ca_file')}: must be text, not a number: put it in quotes"
    ]


@pytest.mark.parametrize("place", ["text", "file", "env"])
def test_proxy_may_be_text_or_a_secret(
    load: Load, step: str, folder: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://us:s3cret@proxy.acme.example:3128"
    (folder / "proxy").write_text(f"{address}\n")
    monkeypatch.setenv("PORTAL_PROXY", address)
    given: object = {"text": address, "file": {"file": "proxy"}, "env": {"env": "PORTAL_PROXY"}}[place]
    settings = load(with_way(step, proxy=given))
    found = at(settings, step).proxy
    assert isinstance(found, Proxy)
    assert (found.host, found.port) == ("proxy.acme.example", 3128)
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    "given", ["https://proxy:3128", "proxy:3128", "http://us:s3cret@proxy", "http://us:s3cret@[:1"]
)
def test_invalid_proxy_is_refused_and_not_quoted(refused: Refused, step: str, given: str) -> None:
    (problem,) = refused(with_way(step, proxy=given))
    assert problem.startswith(f"{path(step, 'proxy')}: must be http://host:port, or http://user:password@host:port")
    assert "s3cret" not in problem


def test_unreadable_proxy_is_refused(refused: Refused, step: str, folder: Path) -> None:
    (problem,) = refused(with_way(step, proxy={"file": "no-proxy"}))
    assert (
        problem
        == f"{path(step, 'proxy')}: the file {folder / 'no-proxy'} does not exist: create it, or correct the path"
    )


def test_plain_http_with_a_proxy_is_refused(refused: Refused, load: Load, step: str) -> None:
    key = {"salesforce": "identity_hosts", "configuration_server": "url"}[step]
    url = "http://127.0.0.1:5002"
    given: object = [url] if step == "salesforce" else url
    plain = {key: given, "proxy": "http://proxy:3128"}
    for allowed in (False, True):
        (problem,) = refused(with_way(step, **plain, allow_http=allowed))
        finding = f"{url} is plain http, but proxy supports https only: use https, or remove proxy"
        assert problem == f"{path(step, key)}: {finding}"
    load(with_way(step, **{key: given}))
    load(with_way(step, proxy="http://proxy:3128"))


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        (0, "must be from 1 to 1024, not 0"),
        (1025, "must be from 1 to 1024, not 1025"),
        ("4", "must be a whole number without quotes, not text"),
    ],
)
def test_concurrent_calls_must_be_a_number(
    refused: Refused, load: Load, step: str, given: object, finding: str
) -> None:
    assert refused(with_way(step, concurrent_calls=given)) == [f"{path(step, 'concurrent_calls')}: {finding}"]
    assert at(load(with_way(step, concurrent_calls=1)), step).concurrent_calls == 1
