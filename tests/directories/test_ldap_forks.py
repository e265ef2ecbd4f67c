"""A forked process has LDAP connections and circuits of its own, and leaves its parent's alone."""

from __future__ import annotations

import gc

import pytest

from flask_genesys_auth.chain.outcomes import Reason, Unavailable
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.settings import LdapAttributes
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.upstream.breaker import FAILURES
from tests.forking import FORKS, holds_in_child
from tests.slapd import PASSWORD, SlapdServer

from .scripted import ScriptedServer, finds_ann

pytestmark = pytest.mark.parametrize("fork", sorted(FORKS))

ANN = DirectoryEntry({"username": "ann"})


def email(directory: LdapDirectory, name: str) -> str | None:
    found = directory.verify(name, PASSWORD)
    assert isinstance(found, DirectoryEntry), found
    return found.attributes.get("email")


@pytest.mark.parametrize("tls", [False, True])
def test_each_process_gets_its_own_answers(slapd: SlapdServer, fork: str, tls: bool) -> None:
    for name in ("una", "vic"):
        slapd.add_person(name, mail=f"{name}@acme.example")
    directory = LdapDirectory(
        slapd.settings(
            attributes=LdapAttributes(email="mail"),
            servers=(LdapServer(tls, "127.0.0.1", slapd.tls_port if tls else slapd.port),),
            ca_file=slapd.authority,
        )
    )
    assert email(directory, "una") == "una@acme.example"

    def check() -> bool:
        found = [email(directory, name) for name in ("vic", "una", "vic")]
        directory.close()
        return found == ["vic@acme.example", "una@acme.example", "vic@acme.example"]

    for _ in range(2):
        assert holds_in_child(check, fork=fork)
        assert email(directory, "una") == "una@acme.example"
    directory.close()


def test_child_opens_its_own_connections(fork: str) -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(0))) as server:
        directories = [LdapDirectory(server.settings())]
        assert directories[0].verify("ann", PASSWORD) == ANN
        assert server.connections == 2

        def check() -> bool:
            own = [directories[0].verify("ann", PASSWORD) for _ in range(2)]
            directories[0].close()
            return own == [ANN] * 2

        assert holds_in_child(check, fork=fork)
        assert server.connections == 4

        def drop() -> bool:
            directories.clear()
            gc.collect()
            return True

        assert holds_in_child(drop, fork=fork)
        assert directories[0].verify("ann", PASSWORD) == ANN
        assert server.connections == 4
        directories[0].close()
        assert directories[0].verify("ann", PASSWORD) == ANN
        assert server.connections == 6
        directories[0].close()


def test_child_has_its_own_circuit(fork: str) -> None:
    with ScriptedServer(lambda asked: asked.result(80)) as server:
        directory = LdapDirectory(server.settings())

        def reason() -> Reason:
            found = directory.verify("ann", PASSWORD)
            assert isinstance(found, Unavailable)
            return found.reason

        def opens_after(failures: int) -> bool:
            return [reason() for _ in range(failures + 1)] == [Reason.SERVER_ERROR] * failures + [Reason.CIRCUIT_OPEN]

        for _ in range(FAILURES - 1):
            assert reason() is Reason.SERVER_ERROR
        assert holds_in_child(lambda: opens_after(FAILURES), fork=fork)
        assert opens_after(1)
        directory.close()
