from __future__ import annotations

from pathlib import Path

import pytest

from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata

from ..addresses import IDP, SSO


@pytest.fixture
def genuine(key: SigningKey) -> str:
    """The metadata of the provider."""
    return provider_metadata(IDP, SSO, (key.certificate,))


def written(tmp_path: Path, text: str | bytes) -> Path:
    """Write metadata to a file and return its path."""
    path = tmp_path / "metadata.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
