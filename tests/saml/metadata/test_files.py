"""Metadata files are read at the start, and again when they change."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.saml.keys import der_of
from flask_genesys_auth.saml.metadata import MetadataRefused
from flask_genesys_auth.testing.saml_messages import SigningKey
from tests.forking import FORKS, holds_in_child

from ..provider_site import Clock, keys_after_looking, metadata_of, okta, service_at, settle, signed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(metadata_of(key))
    return path


def der(*keys: SigningKey) -> set[bytes]:
    return {der_of(key.certificate_pem) for key in keys}


def test_changed_file_is_read_without_restart(path: Path, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(path, clock) as service:
        path.write_text(metadata_of(key, other_key))
        clock.pass_(9)
        assert keys_after_looking(okta(service)) == der(key)
        clock.pass_(1)
        assert keys_after_looking(okta(service)) == der(key, other_key)
        path.write_text(metadata_of(other_key))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(other_key)


def test_unchanged_file_is_not_read_again(
    path: Path, clock: Clock, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service_at(path, clock) as service:
        trust = okta(service).current()
        clock.pass_(10)
        keys_after_looking(okta(service))
        assert okta(service).current() is trust
        os.utime(path, (1, 1))
        clock.pass_(10)
        keys_after_looking(okta(service))
        assert okta(service).current() is not trust


@pytest.mark.parametrize("broken", ["", "<half", "<x/>"])
def test_broken_file_keeps_old_metadata_and_warns(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, key: SigningKey, other_key: SigningKey, broken: str
) -> None:
    with service_at(path, clock) as service:
        path.write_text(broken)
        for _ in range(3):
            clock.pass_(10)
            assert keys_after_looking(okta(service)) == der(key)
        (warning,) = caplog.records
        assert warning.levelname == "WARNING"
        assert str(path) in warning.getMessage()
        assert okta(service).failure is not None
        path.write_text(metadata_of(other_key))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert okta(service).failure is None


def test_restored_file_is_valid_again(path: Path, clock: Clock, key: SigningKey) -> None:
    aside = path.with_suffix(".aside")
    with service_at(path, clock) as service:
        path.rename(aside)
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(key)
        assert okta(service).failure is not None
        aside.rename(path)
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(key)
        assert okta(service).failure is None


def test_expired_file_does_not_replace_valid_one(
    path: Path, clock: Clock, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(path, clock) as service:
        path.write_text(metadata_of(other_key, valid_until=clock.now))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(key)
        path.write_text(metadata_of(other_key, valid_until=clock.now + 60))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(other_key)


def test_pinned_signer_applies_to_changed_files(
    path: Path, clock: Clock, key: SigningKey, other_key: SigningKey
) -> None:
    path.write_bytes(signed(metadata_of(key), other_key))
    with service_at(path, clock, metadata_certificate=other_key.certificate_pem) as service:
        path.write_bytes(signed(metadata_of(other_key), key))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(key)
        path.write_bytes(signed(metadata_of(other_key), other_key))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(other_key)


def test_refresh_of_a_file_reports_changes(path: Path, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(path, clock) as service:
        path.write_text(metadata_of(other_key))
        change = okta(service).refresh()
        assert change.before is not None
        assert (set(change.before.certificates), set(change.after.certificates)) == (der(key), der(other_key))
        path.unlink()
        with pytest.raises(MetadataRefused, match="cannot be read"):
            okta(service).refresh()
        assert set(okta(service).current().metadata.certificates) == der(other_key)


def threads_that_look() -> int:
    return [thread.name for thread in threading.enumerate()].count("metadata of acme/okta")


def test_one_refresh_at_a_time(path: Path, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(path, clock) as service:
        path.unlink()
        os.mkfifo(path)
        clock.pass_(10)
        okta(service).current()  # begins a look, which waits for a writer
        assert threads_that_look() == 1
        for _ in range(3):
            clock.pass_(10)
            assert set(okta(service).current().metadata.certificates) == der(key)
            assert threads_that_look() == 1
        with path.open("w") as writer:
            writer.write(metadata_of(other_key))
        settle(okta(service))
        assert threads_that_look() == 0
        path.unlink()
        path.write_text(metadata_of(key, other_key))
        assert keys_after_looking(okta(service)) == der(key, other_key)


@pytest.mark.parametrize("fork", sorted(FORKS))
def test_child_starts_with_the_initial_metadata(path: Path, clock: Clock, key: SigningKey, fork: str) -> None:
    with service_at(path, clock) as service:
        path.unlink()  # or the server has dropped the right to read it
        clock.pass_(10)
        assert holds_in_child(lambda: keys_after_looking(okta(service)) == der(key), fork=fork)


@pytest.mark.parametrize("fork", sorted(FORKS))
def test_child_reads_newer_metadata_itself(
    path: Path, clock: Clock, key: SigningKey, other_key: SigningKey, fork: str
) -> None:
    with service_at(path, clock) as service:
        path.write_text(metadata_of(other_key))
        clock.pass_(10)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert holds_in_child(lambda: keys_after_looking(okta(service)) == der(other_key), fork=fork)


def test_unusable_file_at_start_is_an_error(path: Path, clock: Clock) -> None:
    with service_at(path, clock):
        pass
    path.write_text("<x/>")
    with pytest.raises(
        ConfigurationError, match=r"identity_providers\.okta\.metadata: .*idp\.xml: .*not SAML metadata"
    ):
        service_at(path, clock).__enter__()
