"""The contact center of a request: the one that all evidence names."""

from __future__ import annotations

import base64
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_genesys_auth.chain.contact_centers import RESOLUTION, ContactCenter, ContactCenters
from flask_genesys_auth.chain.evidence import Evidence, ResumeSession, collect
from flask_genesys_auth.chain.outcomes import LoginSession, Reason, Rejected, StepRecord
from flask_genesys_auth.config.settings import (
    ContactCenterSettings,
    IdentityProvider,
    Salesforce,
    SalesforceHeaders,
    Saml,
    Settings,
)
from flask_genesys_auth.errors import StateUnavailable

SAML = Saml({"idp": IdentityProvider("idp", Path("idp.xml"))})
ORGANIZATIONS = {"acme": "00D00000000000A", "beta": "00D00000000000B"}


def settings_of(name: str, saml: Saml | None = SAML) -> ContactCenterSettings:
    return ContactCenterSettings(
        name=name,
        id=f"{name}-id",
        hosts=frozenset({f"{name}.example", f"ports.example:{len(name)}{ord(name[0])}"}),
        domains=frozenset({f"{name}.example", f"mail.{name}.example"}),
        realms=frozenset({name, f"{name} realm"}),
        salesforce=Salesforce(frozenset({ORGANIZATIONS.get(name, f"00D{name:0>12}")})),
        saml=saml,
    )


def centers_of(*tables: ContactCenterSettings, default: str = "", prefix: str = "/saml") -> ContactCenters:
    settings = Settings(
        contact_centers={table.name: table for table in tables},
        base_path=Path("/srv"),
        default_contact_center=default,
        saml_url_prefix=prefix,
    )
    return ContactCenters(settings, [ContactCenter(table, ()) for table in tables])


BOTH = centers_of(settings_of("acme"), settings_of("beta"))
BOTH_WITH_DEFAULT = centers_of(settings_of("acme"), settings_of("beta"), default="beta")
ONE = centers_of(settings_of("acme"))


def evidence(
    path: str = "/",
    *,
    host: str = "elsewhere.example",
    header: str = "",
    user_name: str = "",
    organization: str = "",
    resume: ResumeSession = lambda: None,
) -> Evidence:
    headers = {}
    if header:
        headers["ContactCenterId"] = header
    if user_name:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user_name}:x".encode()).decode()
    if organization:
        headers["ssid"] = "s"
        headers["surl"] = f"https://login.salesforce.com/id/{organization}/005000000000001"
    environ = EnvironBuilder(path=path, headers=list(headers.items())).get_environ()
    environ["HTTP_HOST"] = host
    return collect(Request(environ), SalesforceHeaders(), resume)


def resolved(centers: ContactCenters, found: Evidence) -> str | Reason | None:
    outcome = centers.resolve(found)
    if isinstance(outcome, ContactCenter):
        return outcome.name
    assert isinstance(outcome, StepRecord)
    assert outcome.step == RESOLUTION
    return outcome.reason


def session_of(name: str) -> ResumeSession:
    return lambda: LoginSession(name, "1", "saml", 0, 0, 0)


@pytest.mark.parametrize(
    "found",
    [
        evidence(header="acme-id"),
        evidence(host="acme.example"),
        evidence(host="ACME.Example"),
        evidence(host="acme.example:8443"),
        evidence(user_name="ACME\\ann"),
        evidence(user_name="acme realm\\ann"),
        evidence(user_name="ann@acme.example"),
        evidence(user_name="Ann@Mail.ACME.example"),
        evidence(user_name="UNKNOWN\\ann@acme.example"),
        evidence(organization=ORGANIZATIONS["acme"]),
        evidence("/saml/acme/login"),
        evidence("/saml/acme"),
    ],
)
def test_each_piece_of_evidence_names_its_contact_center(found: Evidence) -> None:
    assert resolved(BOTH, found) == "acme"


@pytest.mark.parametrize(
    "found",
    [
        evidence(),
        evidence(host=""),
        evidence(host="acme.example.evil.example"),
        evidence(host="evil-acme.example"),
        evidence(host="acme.example."),
        evidence(host="not a host!"),
        evidence(host=":8443"),
        evidence(host="[::1]:8443"),
        evidence(user_name="ann"),
        evidence(user_name="UNKNOWN\\ann"),
        evidence(user_name="\\ann"),
        evidence(user_name="ann@elsewhere.example"),
        evidence(user_name="ann@"),
        evidence(user_name="nul\0@acme.example"),  # malformed: it names no user
        evidence(organization="00D00000000000C"),
        evidence(organization="00d00000000000a"),
        evidence("/saml/nobody/login"),
        evidence("/samlx/acme/login"),
        evidence("/x/saml/acme/login"),
        evidence("/saml/ACME/login"),
    ],
)
def test_unlisted_evidence_names_none(found: Evidence) -> None:
    assert resolved(BOTH, found) is Reason.NO_CONTACT_CENTER
    assert resolved(BOTH_WITH_DEFAULT, found) == "beta"
    assert resolved(ONE, found) == "acme"


@pytest.mark.parametrize("header", ["nobody", "acme", "ACME-ID", "acme-id, acme-id", "\xe4"])
def test_unknown_contact_center_id_is_rejected(header: str) -> None:
    for centers in (BOTH, BOTH_WITH_DEFAULT, ONE):
        assert resolved(centers, evidence(header=header)) is Reason.UNKNOWN_CONTACT_CENTER
    assert resolved(BOTH, evidence(header=header, host="acme.example")) is Reason.UNKNOWN_CONTACT_CENTER
    assert resolved(BOTH, evidence(header="acme-id", host="acme.example")) == "acme"


PIECES: dict[str, dict[str, str]] = {
    "header": {"acme": "acme-id", "beta": "beta-id"},
    "host": {"acme": "acme.example", "beta": "beta.example"},
    "organization": ORGANIZATIONS,
}
NAMED = ["", "acme", "beta"]


@pytest.mark.parametrize(("header", "host", "organization", "realm", "domain"), list(product(NAMED, repeat=5)))
def test_all_evidence_that_names_one_must_agree(
    header: str, host: str, organization: str, realm: str, domain: str
) -> None:
    user_name = f"{realm or 'UNKNOWN'}\\ann@{domain or 'elsewhere'}.example"
    found = evidence(
        header=PIECES["header"].get(header, ""),
        host=PIECES["host"].get(host, "elsewhere.example"),
        organization=ORGANIZATIONS.get(organization, ""),
        user_name=user_name,
        resume=session_of("beta"),
    )
    named = {header, host, organization, realm, domain} - {""}
    if len(named) == 2:
        assert resolved(BOTH_WITH_DEFAULT, found) is Reason.CONTACT_CENTER_CONFLICT
    else:
        assert resolved(BOTH_WITH_DEFAULT, found) == (named.pop() if named else "beta")


def test_conflict_is_rejected_and_names_both() -> None:
    record = BOTH.resolve(evidence(host="acme.example", header="beta-id"))
    assert isinstance(record, StepRecord)
    assert record.outcome == Rejected(Reason.CONTACT_CENTER_CONFLICT, "the request names acme, beta")


@given(st.sampled_from(NAMED), st.sampled_from([*NAMED, "nobody"]), st.sampled_from(NAMED), st.sampled_from(NAMED))
def test_on_saml_addresses_the_path_decides(host: str, header: str, realm: str, session: str) -> None:
    found = evidence(
        "/saml/acme/acs",
        host=f"{host or 'elsewhere'}.example",
        header=f"{header}-id" if header else "",
        user_name=f"{realm or 'UNKNOWN'}\\ann",
        resume=session_of(session),
    )
    assert resolved(BOTH_WITH_DEFAULT, found) == "acme"


def test_path_without_saml_table_is_ignored() -> None:
    centers = centers_of(settings_of("acme", saml=None), settings_of("beta"))
    assert resolved(centers, evidence("/saml/acme/login")) is Reason.NO_CONTACT_CENTER
    assert resolved(centers, evidence("/saml/beta/login")) == "beta"


def test_saml_prefix_is_the_configured_one() -> None:
    centers = centers_of(settings_of("acme"), settings_of("beta"), prefix="/sso/saml2")
    assert resolved(centers, evidence("/sso/saml2/acme/login")) == "acme"
    assert resolved(centers, evidence("/saml/acme/login")) is Reason.NO_CONTACT_CENTER


def test_login_session_decides_before_the_default() -> None:
    assert resolved(BOTH_WITH_DEFAULT, evidence(resume=session_of("acme"))) == "acme"
    assert resolved(BOTH, evidence(resume=session_of("acme"))) == "acme"
    assert resolved(BOTH_WITH_DEFAULT, evidence()) == "beta"


def test_evidence_outranks_the_login_session() -> None:
    assert resolved(BOTH, evidence(host="acme.example", resume=session_of("beta"))) == "acme"


def test_ended_or_orphaned_session_leaves_the_default() -> None:
    ended: ResumeSession = lambda: Rejected(Reason.SESSION_ENDED)  # noqa: E731 - beside its sibling
    assert resolved(BOTH_WITH_DEFAULT, evidence(resume=ended)) == "beta"
    assert resolved(BOTH_WITH_DEFAULT, evidence(resume=session_of("removed"))) == "beta"
    assert resolved(BOTH, evidence(resume=session_of("removed"))) is Reason.NO_CONTACT_CENTER


def test_session_is_resolved_only_if_needed() -> None:
    def unreadable() -> LoginSession | Rejected | None:
        raise StateUnavailable("down")

    assert resolved(ONE, evidence(resume=unreadable)) == "acme"
    assert resolved(BOTH, evidence(host="acme.example", resume=unreadable)) == "acme"
    with pytest.raises(StateUnavailable):
        BOTH.resolve(evidence(resume=unreadable))


def test_hosts_with_a_port_and_ipv6_hosts() -> None:
    acme = ContactCenterSettings("acme", "acme", hosts=frozenset({"[::1]", "shared.example:8443"}))
    beta = ContactCenterSettings("beta", "beta", hosts=frozenset({"[::2]:5000", "shared.example"}))
    centers = centers_of(acme, beta)
    expected = {
        "[::1]": "acme",
        "[::1]:5000": "acme",
        "[::2]:5000": "beta",
        "[::2]:5001": Reason.NO_CONTACT_CENTER,
        "shared.example:8443": "acme",
        "SHARED.example": "beta",
        "shared.example:9000": "beta",
    }
    assert {host: resolved(centers, evidence(host=host)) for host in expected} == expected


def test_host_is_not_read_without_configured_hosts() -> None:
    plain = [ContactCenterSettings(name, name) for name in ("acme", "beta")]
    assert resolved(centers_of(*plain), evidence(host="acme.example")) is Reason.NO_CONTACT_CENTER
    assert resolved(centers_of(*plain), evidence(host="acme.example", header="beta")) == "beta"


def test_single_contact_center_is_the_default() -> None:
    assert ONE.default is ONE["acme"]
    assert BOTH.default is None
    assert BOTH_WITH_DEFAULT.default is BOTH_WITH_DEFAULT["beta"]


def test_it_is_a_mapping_of_all_contact_centers() -> None:
    assert dict(BOTH) == {"acme": BOTH["acme"], "beta": BOTH["beta"]}
    assert len(BOTH) == 2


hosts = st.sampled_from(["acme.example", "beta.example", "elsewhere.example", ""]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), max_size=20
)
names = st.sampled_from(["", "ACME\\ann", "ann@beta.example", "BETA\\x@acme.example"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)
paths = st.sampled_from(["/", "/saml/acme/acs", "/saml/", "/saml"])
ids = st.sampled_from(["", "acme-id", "beta-id", "nobody"])


@given(paths, hosts, ids, names, st.sampled_from(["", *ORGANIZATIONS.values(), "x"]))
def test_any_request_resolves_or_gets_a_record(
    path: str, host: str, header: str, user_name: str, organization: str
) -> None:
    found = resolved(BOTH, evidence(path, host=host, header=header, user_name=user_name, organization=organization))
    assert found in {
        "acme",
        "beta",
        Reason.NO_CONTACT_CENTER,
        Reason.CONTACT_CENTER_CONFLICT,
        Reason.UNKNOWN_CONTACT_CENTER,
    }
