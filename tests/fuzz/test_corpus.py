"""What the coverage-guided fuzzer has kept goes through the gate in every run, also where atheris is not installed."""

from __future__ import annotations

import base64
from pathlib import Path

from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.transport import read_query

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def outcome(encoded: str) -> str:
    """The fault, or nothing where the gate admits it; any other exception ends the test."""
    try:
        admit(encoded)
    except SamlError as error:
        return error.reason
    return ""


def queried(raw_query: str) -> str:
    """The message's kind, or the fault."""
    try:
        return read_query(raw_query).kind
    except SamlError as error:
        return error.reason


def test_corpus_reaches_every_check_of_the_gate() -> None:
    found = {outcome(base64.b64encode(path.read_bytes()).decode()) for path in CORPUS}
    found |= {outcome(path.read_bytes().decode("latin-1")) for path in CORPUS}
    assert {"", Fault.MALFORMED, Fault.FORBIDDEN_XML, Fault.STRUCTURE, Fault.DUPLICATE_ID, Fault.ALGORITHM} <= found
    assert {Fault.SIGNATURE_FORM, Fault.STATUS} <= found


def test_corpus_as_a_query_is_read_or_refused() -> None:
    found = {queried(path.read_bytes().decode("latin-1")) for path in CORPUS}
    assert {"SAMLRequest", "SAMLResponse", Fault.MALFORMED, Fault.NOT_SIGNED} <= found


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS) < 200_000
