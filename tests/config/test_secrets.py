"""Secrets are read from text, a file or the environment, and never shown."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError

from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.secrets import MAX_FILE, Secret, SecretSource, read_file
from flask_genesys_auth.errors import ConfigurationError

from .conftest import Load, Mapping
from .test_errors import CENTER, CS, IDP, changed

SECRET = "hunter2-hunter2"


def found(source: SecretSource, folder: Path) -> str:
    return source.read(folder).reveal()


def problem(source: SecretSource, folder: Path) -> str:
    with pytest.raises(ValidationError) as caught:
        source.read(folder)
    return str(caught.value.messages[0])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b" secret ", " secret "),
        ("pässwörd €\n".encode(), "pässwörd €"),
    ],
)
def test_last_line_end_of_a_file_is_removed(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert found(SecretSource("file", "secret"), tmp_path) == expected
    assert found(SecretSource("file", str(tmp_path / "secret")), Path("/elsewhere")) == expected


@pytest.mark.parametrize(
    ("content", "finding"),
    [(b"", "is empty"), (b"\n", "is empty"), (b" \t\n", "is empty"), (b"\xff\xfeabc", "is not UTF-8 text")],
)
def test_file_without_text_is_refused(tmp_path: Path, content: bytes, finding: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert problem(SecretSource("file", "secret"), tmp_path) == f"{tmp_path / 'secret'} {finding}"


def test_missing_file_or_folder_is_refused_as_secret(tmp_path: Path) -> None:
    gone = f"the file {tmp_path / 'gone'} does not exist: create it, or correct the path"
    assert problem(SecretSource("file", "gone"), tmp_path) == gone
    assert problem(SecretSource("file", "."), tmp_path) == f"{tmp_path} is not a file: correct the path"


def test_too_large_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(ValidationError, match="is larger than"):
        read_file(tmp_path / "large")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_FILE)
    assert read_file(tmp_path / "large") == bytes(MAX_FILE)


def test_invalid_path_is_refused() -> None:
    with pytest.raises(ValidationError):
        read_file(Path("nul\0"))


def test_environment_variable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SecretSource("env", "PORTAL_SECRET")
    assert problem(source, tmp_path) == "the environment variable PORTAL_SECRET is not set: set it"
    monkeypatch.setenv("PORTAL_SECRET", "")
    assert problem(source, tmp_path) == "the environment variable PORTAL_SECRET is empty"
    monkeypatch.setenv("PORTAL_SECRET", SECRET)
    assert found(source, tmp_path) == SECRET


def test_text_is_the_secret_itself(tmp_path: Path) -> None:
    assert found(SecretSource("text", SECRET), tmp_path) == SECRET
    assert problem(SecretSource("text", ""), tmp_path) == "the secret is empty"
    assert problem(SecretSource("text", "\ud800"), tmp_path) == "the secret is not UTF-8 text"


def test_secret_never_shows() -> None:
    secret = Secret(SECRET)
    assert SECRET not in f"{secret} {secret!r} {[secret]} {secret!s:>40} {SecretSource('text', SECRET)!r}"
    with pytest.raises(TypeError) as caught:
        pickle.dumps(secret)
    assert SECRET not in str(caught.value)


def test_secrets_are_compared_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("\xe4") == Secret("\xe4")


def test_the_settings_do_not_show_their_secrets(load: Load, full: Mapping) -> None:
    mapping = changed(full, f"{CS}.client_secret", SECRET)
    mapping["accounts_url"] = "sqlite:///people.sqlite3?password=" + SECRET
    settings = load(mapping)
    assert SECRET in settings.accounts_url
    mapping["state_url"] = f"redis://:{SECRET}@redis.internal/0"
    assert SECRET in load(mapping).state_url
    assert SECRET not in repr(load(mapping))
    assert SECRET not in repr(settings)
    assert "PRIVATE KEY" not in repr(settings)
    assert "cl13nt" not in repr(load(full))


def everything(error: BaseException) -> Iterator[str]:
    """Yield all that a log, a debugger or an error tracker would show of an exception and its causes."""
    yield "".join(traceback.format_exception(error))
    yield repr(error) + str(error) + repr(error.__dict__)
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            yield from everything(behind)


SPOILED: list[tuple[str, Any]] = [
    (f"{CS}.client_secret", [SECRET]),
    (f"{CS}.client_secret", {SECRET: SECRET}),
    (f"{CS}.client_secret", {"text": SECRET}),
    (f"{CS}.client_secret", {"file": "client-secret", "text": SECRET}),
    (f"{CS}.client_secret", SECRET + "\ud800"),
    (f"{CS}.client_secret", SECRET.encode()),
    (f"{CS}.timeout", SECRET),
    (f"{CENTER}.saml.signing_key", SECRET),
    (f"{CENTER}.saml.signing_key", {"file": "binary"}),
    (f"{CENTER}.saml.signing_certificate", SECRET),
    ("accounts_url", f"postgresql+nosuch://portal:{SECRET}@db.internal/people"),
    ("accounts_url", f"postgresql://portal:{SECRET}@db.internal:port/people"),
    ("accounts_url", f"portal:{SECRET}@db.internal"),
    ("state_url", f"redis://:{SECRET}@redis.internal/zero"),
    ("state_url", f"redis://redis.internal:{SECRET}/0"),
    ("state_url", f"unix://ann:{SECRET}@elsewhere/run/redis.sock"),
    ("state_url", f"unix://ann:{SECRET}@[/run/redis.sock"),
    ("state_url", f"redis+sentinel://ann:{SECRET}@sentinel.internal"),
    ("state_url", f"redis+sentinel://sentinel.internal:{SECRET}/portal/0"),
    ("public_url", f"https://portal:{SECRET}@portal.acme.example"),
    (f"{CS}.url", f"https://portal:{SECRET}@gws.internal"),
    (f"{IDP}.match", SECRET),
    ("state_timeout", SECRET),
]


@pytest.mark.parametrize(("path", "value"), SPOILED)
def test_no_error_shows_a_secret(folder: Path, full: Mapping, path: str, value: object) -> None:
    (folder / "binary").write_bytes(SECRET.encode() + b"\xff")
    mapping = changed(full, path, value)
    mapping["session"] = {"idle_timeout": 0}  # something is wrong elsewhere too
    mapping["contact_centers"]["beta"]["configuration_server"] = {"client_secret": SECRET}
    with pytest.raises(ConfigurationError) as caught:
        load_settings(mapping, base_path=folder, app_name="portal")
    assert any(problem.startswith(path) for problem in caught.value.problems)
    shown = "".join(everything(caught.value))
    assert SECRET not in shown
    assert caught.value.__context__ is None
