"""Results of an LDAP server over a real socket: each answer beside one that is accepted."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flask_genesys_auth.chain.evidence import BasicCredentials, Evidence
from flask_genesys_auth.chain.outcomes import Outcome, Reason, Rejected, Unavailable
from flask_genesys_auth.chain.protocols import DirectoryEntry
from flask_genesys_auth.config.names import fold
from flask_genesys_auth.config.settings import ConfigurationServer, LdapAttributes
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.directories.ldap.connection import policy_error
from flask_genesys_auth.limits import FailureLimit
from flask_genesys_auth.steps.configuration_server import ConfigurationServerStep
from flask_genesys_auth.upstream.breaker import FAILURES

from .. import gates
from .scripted import BIND, EXTENDED, SEARCH, Asked, Say, ScriptedServer, ber, finds_ann, text

PASSWORD = "ann's passw0rd"
AD = "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data {}, v4563\0"


def outcome(say: Say, password: str = PASSWORD) -> DirectoryEntry | Rejected | Unavailable:
    with ScriptedServer(finds_ann(say)) as server:
        return LdapDirectory(server.settings()).verify("ann", password)


def limited(settings: ConfigurationServer) -> ConfigurationServerStep:
    return ConfigurationServerStep(settings, LdapDirectory(settings), FailureLimit("1 per 15 minutes"))


def attempt(step: ConfigurationServerStep, name: str) -> Outcome:
    evidence = Evidence(cast("Any", None), "192.0.2.1", BasicCredentials(name, PASSWORD, name=fold(name)))
    return gates.ask(step, evidence, cast("Any", SimpleNamespace(name="acme")), account=False)


def reason(found: DirectoryEntry | Outcome) -> Reason:
    assert isinstance(found, (Rejected, Unavailable)), found
    return found.reason


def test_good_password_is_accepted() -> None:
    assert outcome(lambda asked: asked.result(0)) == DirectoryEntry({"username": "ann"})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("525", Reason.BAD_CREDENTIALS),
        ("52e", Reason.BAD_CREDENTIALS),
        ("52E", Reason.BAD_CREDENTIALS),
        ("52f", Reason.LOGON_RESTRICTED),
        ("530", Reason.LOGON_RESTRICTED),
        ("531", Reason.LOGON_RESTRICTED),
        ("532", Reason.PASSWORD_EXPIRED),
        ("533", Reason.DISABLED_IN_DIRECTORY),
        ("569", Reason.LOGON_RESTRICTED),
        ("701", Reason.EXPIRED_IN_DIRECTORY),
        ("773", Reason.PASSWORD_MUST_CHANGE),
        ("775", Reason.LOCKED_IN_DIRECTORY),
        ("abc", Reason.BAD_CREDENTIALS),
    ],
)
def test_active_directorys_sub_codes_are_reasons(code: str, expected: Reason) -> None:
    found = outcome(lambda asked: asked.result(49, AD.format(code)))
    assert found == Rejected(expected, f"sub-code {code.lower()}")


def test_domain_without_controllers_is_an_outage() -> None:
    found = outcome(lambda asked: asked.result(49, AD.format("51f")))
    assert isinstance(found, Unavailable)
    assert found.uncounted


def test_sub_codes_count_only_with_error_49() -> None:
    assert isinstance(outcome(lambda asked: asked.result(0, AD.format("533"))), DirectoryEntry)
    assert reason(outcome(lambda asked: asked.result(52, AD.format("533")))) is Reason.SERVER_ERROR


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (b"\x30\x03\x81\x01\x00", 49, Reason.PASSWORD_EXPIRED),
        (b"\x30\x03\x81\x01\x01", 49, Reason.LOCKED_IN_DIRECTORY),
        (b"\x30\x03\x81\x01\x02", 0, Reason.PASSWORD_MUST_CHANGE),
        (b"\x30\x03\x81\x01\x00", 0, Reason.PASSWORD_EXPIRED),
        (b"\x30\x08\xa0\x03\x80\x01\x09\x81\x01\x02", 0, Reason.PASSWORD_MUST_CHANGE),
        (b"\x30\x03\x81\x01\x08", 49, Reason.BAD_CREDENTIALS),
        (b"\x30\x00", 49, Reason.BAD_CREDENTIALS),
        (b"", 49, Reason.BAD_CREDENTIALS),
    ],
)
def test_password_policy_control_gives_the_reason(value: bytes, code: int, expected: Reason) -> None:
    assert reason(outcome(lambda asked: asked.policy(code, value))) is expected


@pytest.mark.parametrize("value", [b"\x30\x05\xa0\x03\x80\x01\x09", b"\x30\x05\xa0\x03\x81\x01\x02", b"\x30\x00", b"?"])
def test_password_policy_warning_is_accepted(value: bytes) -> None:
    assert isinstance(outcome(lambda asked: asked.policy(0, value)), DirectoryEntry)


@pytest.mark.parametrize(
    "value", [b"", b"\x30", b"\x30\x05\x81", b"\x30\x02\x81\x01", b"\x30\x03\x81\x02\x00", b"\x31\x03\x81\x01\x00"]
)
def test_malformed_policy_control_is_ignored(value: bytes) -> None:
    assert policy_error(value) is None
    assert policy_error(b"\x30\x03\x81\x01\x00") is Reason.PASSWORD_EXPIRED


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (49, "", Reason.BAD_CREDENTIALS),
        (48, "", Reason.BAD_CREDENTIALS),
        (32, "", Reason.BAD_CREDENTIALS),
        (53, "Account inactivated. Contact system administrator.", Reason.DISABLED_IN_DIRECTORY),
        (19, "Exceed password retry limit. Please try later.", Reason.LOCKED_IN_DIRECTORY),
    ],
)
def test_bind_results_that_reject_the_user(code: int, message: str, expected: Reason) -> None:
    found = outcome(lambda asked: asked.result(code, message))
    assert isinstance(found, Rejected)
    assert found.reason is expected


@pytest.mark.parametrize("code", [1, 2, 3, 7, 8, 10, 11, 13, 19, 34, 50, 51, 52, 53, 80])
def test_other_bind_results_are_outages(code: int) -> None:
    found = outcome(lambda asked: asked.result(code, f"said\r\n\x1b {code}"))
    assert isinstance(found, Unavailable)
    assert found.reason is Reason.SERVER_ERROR
    assert found.uncounted
    assert f"said {code}" in found.detail
    assert found.detail.isprintable()


@pytest.mark.parametrize("code", [1, 10, 32, 50, 51, 52, 53, 80])
def test_search_results_never_reject_the_user(code: int) -> None:
    with ScriptedServer(lambda asked: asked.result(code)) as server:
        assert reason(LdapDirectory(server.settings()).verify("ann", PASSWORD)) is Reason.SERVER_ERROR
        assert server.operations() == [SEARCH]


def test_referral_is_not_followed() -> None:
    with ScriptedServer(lambda asked: asked.result(0)) as elsewhere:
        url = f"ldap://127.0.0.1:{elsewhere.port}/ou=people"
        referral = ber(0xA3, text(url))
        # ldap3 cannot read a bind's own referral, which is an outage as well.
        assert isinstance(outcome(lambda asked: asked.result(10, extra=referral)), Unavailable)

        def refers(asked: Asked) -> bytes:
            return asked.result(10, extra=referral) if asked.operation == SEARCH else asked.result(0)

        with ScriptedServer(refers) as server:
            found = LdapDirectory(server.settings()).verify("ann", PASSWORD)
            assert isinstance(found, Unavailable)
            assert "ldap.servers" in found.detail

        def also(asked: Asked) -> bytes:
            if asked.operation == BIND:
                return asked.result(0)
            return asked.reference(url) + asked.entry("uid=ann,ou=people", uid="ann") + asked.result(0)

        with ScriptedServer(also) as server:
            assert isinstance(LdapDirectory(server.settings()).verify("ann", PASSWORD), DirectoryEntry)
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x30\x03\x02\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80" + b"\x30\x80" * 5000,
        b"\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x05\x02\x01\x02\x61\x00",
        b"\x30\x00",
        b"\xff" * 300_000,
    ],
    ids=["cut off", "another protocol", "endless", "nested", "another number", "empty result", "empty", "too much"],
)
def test_unreadable_answer_is_an_outage(garbage: bytes) -> None:
    with ScriptedServer(lambda asked: garbage) as server:
        directory = LdapDirectory(server.settings(timeout=0.5))
        found = directory.verify("ann", PASSWORD)
        assert isinstance(found, Unavailable)
        assert found.reason in {Reason.UNREADABLE_ANSWER, Reason.TIMED_OUT, Reason.SERVER_ERROR}


@pytest.mark.parametrize("code", [255, 123, 0x49])
def test_unknown_result_code_is_an_outage(code: int) -> None:
    assert isinstance(outcome(lambda asked: asked.result(code)), Unavailable)


def test_oversized_answer_is_not_read_completely() -> None:
    def endless(asked: Asked) -> bytes:
        return b"".join(asked.entry(f"uid=ann{place},ou=people", uid="x" * 1000) for place in range(400))

    with ScriptedServer(endless) as server:
        found = LdapDirectory(server.settings()).verify("ann", PASSWORD)
    assert isinstance(found, Unavailable)
    assert found.reason is Reason.UNREADABLE_ANSWER


@pytest.mark.parametrize("dn", ["", b"uid=\xff,ou=people"])
def test_entry_without_readable_name_is_rejected(dn: str | bytes) -> None:
    def say(asked: Asked) -> bytes:
        return asked.result(0) if asked.operation == BIND else asked.entry(dn, uid="ann") + asked.result(0)

    with ScriptedServer(say) as server:
        found = LdapDirectory(server.settings()).verify("ann", PASSWORD)
    assert isinstance(found, (Rejected, Unavailable))


def test_closed_connection_is_noticed_before_reuse() -> None:
    goodbye = ber(
        0x30, b"\x02\x01\x00", ber(0x78, b"\x0a\x01\x34", text(""), text("bye"), ber(0x8A, b"1.3.6.1.4.1.1466.20036"))
    )
    found = outcome(lambda asked: goodbye)
    assert isinstance(found, Unavailable)
    assert "ended the connection" in found.detail
    assert not found.uncounted

    with ScriptedServer(finds_ann(lambda asked: asked.result(0))) as server:
        server.hangs_up = True
        directory = LdapDirectory(server.settings())
        assert isinstance(directory.verify("ann", PASSWORD), DirectoryEntry)
        server.ended.get(timeout=30)
        assert isinstance(directory.verify("ann", PASSWORD), DirectoryEntry)
        assert server.connections == 3  # one to search, and one for each bind


def test_only_sent_binds_may_have_counted() -> None:
    for say, uncounted in ((finds_ann(lambda asked: None), False), (lambda asked: None, True)):
        with ScriptedServer(say) as server:
            found = LdapDirectory(server.settings()).verify("ann", PASSWORD)
        assert isinstance(found, Unavailable)
        assert found.uncounted is uncounted


def test_counted_attempt_keeps_its_slot() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    # Whom no server was asked about has not failed.
    for say, expected in ((finds_ann(lambda asked: None), Reason.THROTTLED), (lambda asked: None, Reason.UNREACHABLE)):
        with ScriptedServer(say) as server:
            step = limited(server.settings(nobody))
            attempt(step, "ann")
            assert reason(attempt(step, "ann")) is expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ann lee", Reason.THROTTLED),
        ("\uff41\uff4e\uff4e lee", Reason.THROTTLED),
        ("ann  lee", Reason.THROTTLED),
        ("ann\u2003lee", Reason.THROTTLED),
        ("a\u0301nn lee", Reason.THROTTLED),
        ("\u24d0nn lee", Reason.THROTTLED),
        ("annlee", Reason.BAD_CREDENTIALS),
        ("ann leigh", Reason.BAD_CREDENTIALS),
    ],
)
def test_spellings_share_the_directorys_limit(typed: str, expected: Reason) -> None:
    with ScriptedServer(finds_ann(lambda asked: asked.result(49))) as server:
        step = limited(server.settings())
        assert reason(attempt(step, "ann lee")) is Reason.BAD_CREDENTIALS
        assert reason(attempt(step, typed)) is expected


def test_rejected_service_account_is_an_outage() -> None:
    def refuse(asked: Asked) -> bytes:
        return asked.result(49, AD.format("52e"))

    with ScriptedServer(refuse) as server, ScriptedServer(refuse) as second:
        directory = LdapDirectory(server.as_service(second.port))
        for _ in range(FAILURES):
            found = directory.verify("ann", PASSWORD)
            assert isinstance(found, Unavailable)
            assert "ldap.bind_dn" in found.detail
            assert "s3cret" not in repr(found)
        assert len(server.asked) == FAILURES
        assert second.asked == []  # it would but help to lock the account
        for _ in range(FAILURES):
            directory.verify("ann", PASSWORD)
        assert len(server.asked) == len(second.asked) == FAILURES
        assert reason(directory.verify("ann", PASSWORD)) is Reason.CIRCUIT_OPEN


def test_expired_service_password_is_an_outage() -> None:
    with ScriptedServer(lambda asked: asked.policy(0, b"\x30\x03\x81\x01\x02")) as server:
        found = LdapDirectory(server.as_service()).verify("ann", PASSWORD)
        assert isinstance(found, Unavailable)
        assert "password_must_change" in found.detail
        assert server.operations() == [BIND]


@pytest.mark.parametrize(
    ("say", "reason_"),
    [
        (lambda asked: asked.result(2, "unsupported extended operation"), Reason.SERVER_ERROR),
        (lambda asked: asked.result(0), Reason.UNREACHABLE),
        (lambda asked: None, Reason.SERVER_ERROR),
    ],
)
def test_without_tls_nothing_is_sent(say: Callable[[Asked], bytes | None], reason_: Reason) -> None:
    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.by_template(start_tls=True, timeout=1))
        assert reason(directory.verify("ann", PASSWORD)) is reason_
        assert server.operations() == [EXTENDED]
        assert PASSWORD.encode() not in b"".join(one.octets for one in server.asked)


def test_too_many_groups_are_an_outage() -> None:
    def say(asked: Asked) -> bytes:
        if asked.operation == BIND:
            return asked.result(0)
        if b"ou=groups" in asked.octets:
            return asked.entry("cn=agents,ou=groups") + asked.result(limit)
        return asked.entry("uid=ann,ou=people", uid="ann") + asked.result(0)

    with ScriptedServer(say) as server:
        directory = LdapDirectory(server.settings(group_base="ou=groups"))
        limit = 0
        assert directory.verify("ann", PASSWORD) == DirectoryEntry({"username": "ann"}, ("cn=agents,ou=groups",))
        limit = 4
        found = directory.verify("ann", PASSWORD)
        assert isinstance(found, Unavailable)
        assert "more than 1000 groups" in found.detail


@pytest.mark.parametrize("changes", [{}, {"base": "", "user_dn": "mail={user},ou=people"}])
def test_groups_use_the_entrys_name(changes: dict[str, Any]) -> None:
    entry = {"uid": "ann", "mail": "boss"}  # which ann may have written herself

    def say(asked: Asked) -> bytes:
        if asked.operation == BIND:
            return asked.result(0)
        if b"ou=groups" not in asked.octets:
            return asked.entry("uid=ann,ou=people", **entry) + asked.result(0)
        whose = [name for name in ("ann", "boss") if text("memberUid") + text(name) in asked.octets]
        return b"".join(asked.entry(f"cn=of {name},ou=groups") for name in whose) + asked.result(0)

    with ScriptedServer(say) as server:
        by_name = {
            "filter": "(mail={user})",
            "group_base": "ou=groups",
            "group_filter": "(memberUid={user})",
            **changes,
        }
        directory = LdapDirectory(server.settings(**by_name))
        assert directory.verify("boss", PASSWORD) == DirectoryEntry({"username": "ann"}, ("cn=of ann,ou=groups",))
        entry.pop("uid")
        assert directory.verify("boss", PASSWORD) == DirectoryEntry({}, ())


@pytest.mark.parametrize(
    ("typed", "expected"), [("ann", {"username": "ann"}), ("bob", {"username": "bob"}), ("eve", {})]
)
def test_attribute_options_keep_all_values(typed: str, expected: dict[str, str]) -> None:
    def say(asked: Asked) -> bytes:
        entry = asked.entry("uid=ann,ou=people", **{"uid": "ann", "uid;lang-en": "bob"})
        return asked.result(0) if asked.operation == BIND else entry + asked.result(0)

    with ScriptedServer(say) as server:
        assert LdapDirectory(server.settings()).verify(typed, PASSWORD) == DirectoryEntry(expected)


@pytest.mark.parametrize(
    ("octets", "closes"),
    [
        (lambda asked: asked.result(10, extra=ber(0xA3, text("ldap://elsewhere.example"))), False),
        (lambda asked: asked.entry("uid=ann", uid="x" * 400_000), False),
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n", True),
    ],
    ids=["referral", "too much", "no LDAP"],
)
def test_one_entry_does_not_open_the_circuit(octets: Callable[[Asked], bytes], closes: bool) -> None:
    with ScriptedServer(
        finds_ann(lambda asked: octets(asked) if b"ann" in asked.octets else asked.result(0))
    ) as server:
        directory = LdapDirectory(server.by_template(timeout=1))
        for _ in range(FAILURES):
            assert reason(directory.verify("ann", PASSWORD)) is not Reason.CIRCUIT_OPEN
        found = directory.verify("bob", "another")
        assert isinstance(found, Unavailable if closes else DirectoryEntry), found


def test_active_directorys_identifier_is_written_as_windows_does() -> None:
    guid = bytes.fromhex("33221100554477668899aabbccddeeff")

    def say(asked: Asked) -> bytes:
        found = asked.entry("uid=ann,ou=people", uid="ann", objectGUID=guid, jpegPhoto=b"\xff\xd8", sn="")
        return asked.result(0) if asked.operation == BIND else found + asked.result(0)

    names = LdapAttributes(identity="objectGUID", email="jpegPhoto", last_name="sn")
    with ScriptedServer(say) as server:
        found = LdapDirectory(server.settings(attributes=names)).verify("ann", PASSWORD)
    assert found == DirectoryEntry({"username": "ann", "identity": "00112233-4455-6677-8899-aabbccddeeff"})


def test_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ScriptedServer(finds_ann(lambda asked: asked.result(0))) as server:
        settings = server.settings()
    settings = server.settings(port)
    found = LdapDirectory(settings).verify("ann", PASSWORD)
    assert isinstance(found, Unavailable)
    assert found.reason is Reason.UNREACHABLE
    assert found.detail.count("no connection: Connection refused") == 2
    assert found.uncounted
