"""The undocumented parts of ldap3 that we use exist, in the lowest and the newest version."""

from __future__ import annotations

import socket
import subprocess
import sys

import ldap3
import pytest
from ldap3.core.exceptions import LDAPInvalidFilterError, LDAPSessionTerminatedByServerError
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc4511 import Control
from ldap3.strategy.base import BaseStrategy

from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.directories.ldap.connection import Connection, filter_problem
from flask_genesys_auth.upstream import Deadline, Exchange, connect, exchanging

from .scripted import ScriptedServer


def test_ldap3_accepts_a_connected_socket() -> None:
    wire = ldap3.Connection(ldap3.Server("ldap.invalid", get_info=ldap3.NONE), client_strategy=ldap3.SYNC)
    strategy = wire.strategy
    assert isinstance(strategy, BaseStrategy)
    assert (strategy.no_real_dsa, wire.socket, wire.closed, wire.listening) == (False, None, True, False)
    strategy.no_real_dsa = True
    wire.open(read_server_info=False)
    assert wire.socket is None


def test_ldap3_opens_no_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("ldap3 has opened a socket")

    with ScriptedServer(lambda asked: asked.result(0)) as server, exchanging(Exchange(Deadline(60), 65536)):
        sock = connect("127.0.0.1", server.port)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        connection = Connection(LdapServer(False, "127.0.0.1", server.port), sock)
        assert connection.bind("cn=ann", "secret").code == 0
        connection.close()
        assert server.connections == 1


@pytest.mark.parametrize(("tls", "start_tls"), [(True, False), (False, True)])
def test_connection_without_tls_context_is_refused(tls: bool, start_tls: bool) -> None:
    with ScriptedServer(lambda asked: asked.result(0)) as server, exchanging(Exchange(Deadline(60), 65536)):
        with pytest.raises(ValueError, match="needs TLS"):
            Connection.open(LdapServer(tls, "127.0.0.1", server.port), Deadline(60), None, start_tls=start_tls)
        assert server.connections == 0
        Connection.open(LdapServer(False, "127.0.0.1", server.port), Deadline(60), None, start_tls=False).close()


def test_each_server_numbers_its_own_messages() -> None:
    assert callable(ldap3.Server.next_message_id)


def imported(*before: str) -> str:
    """Import our file in a process of its own, and return the last line of what is said."""
    program = "; ".join(
        ("import warnings", "warnings.simplefilter('ignore')", *before, f"import {Connection.__module__}")
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    return (done.stderr.splitlines() or [""])[-1]


def test_ldap3_without_filter_escapes_is_refused() -> None:
    assert imported() == ""
    # As the pre-releases of 2.10 do it.
    said = imported(
        "import ldap3.operation.search as search", "search.prepare_filter_for_sending = lambda raw: bytes(raw)"
    )
    assert "does not read escapes in filters" in said
    assert 'pip install "ldap3<2.10"' in said


def test_ldap3_reads_controls_and_filters() -> None:
    control = Control()
    control["controlType"], control["criticality"] = "1.2", False
    assert bytes(control["controlType"]) == b"1.2"
    search_operation("", "(a=b)", ldap3.SUBTREE, ldap3.DEREF_NEVER, [], 0, 0, False, False, True)
    assert issubclass(LDAPInvalidFilterError, Exception)
    assert issubclass(LDAPSessionTerminatedByServerError, Exception)
    assert filter_problem("(a=b)") == ""
    assert "invalid filter" in filter_problem("(a=b")
