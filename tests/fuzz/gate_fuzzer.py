"""A coverage-guided fuzzer over the gate and the query of the Redirect binding: whatever comes, no error but SamlError.

Run with ``python -m tests.fuzz.gate_fuzzer tests/fuzz/corpus -max_total_time=30``; all arguments are libFuzzer's.
``tests/fuzz/README.md`` says how the corpus is kept.
"""

from __future__ import annotations

import base64
import importlib
import sys
from contextlib import suppress
from importlib.util import find_spec


def main() -> None:
    """Fuzz until libFuzzer's arguments say that it is enough; any other exception than SamlError is a crash."""
    if find_spec("atheris") is None:
        sys.stdout.write(f"Not fuzzed: atheris has no wheel for Python {sys.version.split()[0]} on {sys.platform}\n")
        return
    import atheris

    with atheris.instrument_imports(include=["flask_genesys_auth.saml"]):
        gate = importlib.import_module("flask_genesys_auth.saml.gate")
        transport = importlib.import_module("flask_genesys_auth.saml.transport")
        errors = importlib.import_module("flask_genesys_auth.saml.errors")

    def admit(data: bytes) -> None:
        """Post the bytes as a message in base64, and as the form field itself; then send them as a query."""
        for encoded in (base64.b64encode(data).decode(), data.decode("latin-1")):
            with suppress(errors.SamlError):
                gate.admit(encoded)
        with suppress(errors.SamlError):
            transport.read_query(data.decode("latin-1"))

    atheris.Setup(sys.argv, admit)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
