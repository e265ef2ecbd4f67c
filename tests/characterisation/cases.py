"""The rows of the table, as products of what a request may carry and meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .deployment import BUILT_IN
from .observation import Case

ALL = "all"
BROWSER = "all saml"

CHAINS = (
    ALL,
    "configuration_server web_services",
    "salesforce configuration_server",
    "salesforce web_services",
    "salesforce",
    "configuration_server",
    "web_services",
)
EVIDENCE = (
    ("none",),
    ("basic for Genesys",),
    ("basic for Web Services",),
    ("basic wrong",),
    ("salesforce",),
    ("salesforce ended session",),
    ("salesforce", "basic wrong"),
    ("salesforce ended session", "basic for Web Services"),
    ("salesforce ended session", "basic wrong"),
)
ONCE = (
    ("basic other spelling",),
    ("basic unknown user",),
    ("basic empty password",),
    ("basic malformed",),
    ("basic control character",),
    ("bearer",),
    ("salesforce malformed url",),
    ("salesforce session alone",),
    ("salesforce url alone",),
    ("salesforce foreign host",),
    ("salesforce foreign organization",),
    ("salesforce malformed url", "basic for Web Services"),
    ("salesforce malformed url", "basic wrong"),
    ("salesforce", "basic malformed"),
    ("salesforce ended session", "basic malformed"),
    ("garbage cookie",),
)
SESSIONS = (
    ("cookie",),
    ("cookie", "basic wrong"),
    ("cookie", "basic malformed"),
    ("cookie", "basic for Web Services"),
    ("cookie", "salesforce"),
    ("cookie", "salesforce ended session"),
    ("cookie", "bearer"),
)


def cases() -> list[Case]:
    """Return every case of the table, each once."""
    found = {
        case.id: case
        for part in (
            _evidence,
            _sessions,
            _servers,
            _stores,
            _accounts,
            _built_in,
            _remembered,
            _throttled,
            _views,
            _centers,
            _more,
        )
        for case in part()
    }
    return [found[name] for name in sorted(found)]


def _evidence() -> Iterator[Case]:
    for chain, evidence in product(CHAINS, EVIDENCE):
        yield Case("evidence", chain, evidence)
    for evidence in ONCE:
        yield Case("evidence", ALL, evidence)
    for evidence in EVIDENCE[3:5]:
        yield Case("evidence", BROWSER, evidence)
        yield Case("evidence", "all switched-off saml", evidence)


def _sessions() -> Iterator[Case]:
    for evidence in SESSIONS:
        yield Case("login session", ALL, evidence, ("login of bob",))
    for after in ("sessions revoked", "account absent", "account disabled", "account of globex", "accounts down"):
        yield Case("login session", BROWSER, ("cookie",), ("login of ann", after))
        yield Case("login session", BROWSER, ("cookie",), ("login of ann", after), client="navigation")
    for before in ("salesforce 500", "salesforce circuit open"):
        yield Case("login session", ALL, ("cookie", "salesforce"), ("login of bob", before))
    for after in ("3 wrong", "5 wrong of others"):
        yield Case("login session", ALL, ("cookie",), ("login of ann", after))
        yield Case("login session", ALL, ("cookie", "basic wrong"), ("login of ann", after))


def _servers() -> Iterator[Case]:
    faults = ("500", "429", "closes", "garbage", "redirects", "circuit open")
    met = {
        "salesforce": (
            ("salesforce",),
            ("salesforce", "basic for Web Services"),
            ("salesforce", "basic wrong"),
        ),
        "genesys": (
            ("basic for Genesys",),
            ("basic for Web Services",),
            ("basic wrong",),
            ("salesforce ended session", "basic wrong"),
        ),
    }
    for server, evidences in met.items():
        for fault in faults:
            for evidence in evidences if fault in {"500", "closes", "circuit open"} else evidences[:1]:
                yield Case("server", ALL, evidence, (f"{server} {fault}",))
    for fault, evidence in product(("500", "closes", "circuit open"), (("basic for Genesys",), ("basic wrong",))):
        yield Case("server", "configuration_server", evidence, (f"genesys {fault}",))
    refused = "salesforce at the refusing server"
    for evidence in ((refused,), (refused, "basic for Web Services"), (refused, "basic wrong")):
        yield Case("server", "all refusing-salesforce", evidence)
    for evidence in (("basic for Genesys",), ("basic for Web Services",), ("basic wrong",)):
        yield Case("server", "all refusing-genesys", evidence)
        yield Case("server", "configuration_server refusing-genesys", evidence)
    for evidence in (("salesforce",), ("salesforce", "basic for Web Services")):
        yield Case("server", "all hangs", evidence, ("salesforce hangs",))
    for evidence in (("basic for Web Services",), ("basic wrong",)):
        yield Case("server", "all hangs", evidence, ("genesys hangs",))
    both = ("salesforce 500", "genesys 500")
    for evidence in (("salesforce", "basic wrong"), ("salesforce", "basic for Web Services")):
        yield Case("server", ALL, evidence, both)


def _stores() -> Iterator[Case]:
    evidences = (("salesforce",), ("basic for Genesys",), ("basic for Web Services",), ("basic wrong",))
    for before, evidence in product(("accounts down", "passwords down"), evidences):
        yield Case("store", ALL, evidence, (before,))
    for evidence in evidences[:3]:
        yield Case("store", ALL, evidence, ("the same request", "accounts down"))
    yield Case("store", ALL, evidences[2], ("the same request", "passwords down"))
    own = "all own state"
    for evidence in (("none",), *evidences):
        yield Case("store", own, evidence, ("state down",))
    yield Case("store", own, ("basic for Web Services",), ("the same request", "state down"))
    for client in ("api", "navigation"):
        yield Case("store", own, ("cookie",), ("login of bob", "state down"), client=client)
    yield Case("store", own, ("cookie", "basic for Web Services"), ("login of bob", "state down"))


def _accounts() -> Iterator[Case]:
    states = (
        "account absent",
        "account disabled",
        "account of globex",
        "account of no contact center",
        "account a supervisor",
        "account with another password",
    )
    evidences = (("salesforce",), ("basic for Genesys",), ("basic for Web Services",))
    for state, evidence, known in product(states, evidences, ((), ("the same request",))):
        yield Case("account", ALL, evidence, (*known, state), path="/role")
    for state in states[:3]:
        yield Case("account", ALL, ("salesforce", "basic for Web Services"), (state,))
        yield Case("account", "configuration_server", ("basic for Genesys",), (state,))


def _built_in() -> Iterator[Case]:
    application = f"all {BUILT_IN}"
    changes = ("command disable", "command delete", "command roles", "command set-password")
    for evidence in (("salesforce",), ("basic for Web Services",)):
        yield Case("built-in account", application, evidence)
        yield Case("built-in account", application, evidence, changes[:1])
        for change in changes:
            yield Case("built-in account", application, evidence, ("the same request", change), path="/role")
    form = ("ann", "known to Web Services")
    yield Case("built-in account", application, (), path="/log-in", method="POST", client="own page", form=form)


def _remembered() -> Iterator[Case]:
    evidences = (
        ("basic for Genesys",),
        ("basic for Web Services",),
        ("salesforce",),
        ("salesforce", "basic wrong"),
        ("salesforce ended session", "basic for Web Services"),
        ("basic wrong",),
        ("salesforce ended session",),
    )
    for evidence in evidences:
        server = "genesys 500" if "basic" in evidence[0] else "salesforce 500"
        for after in ((), (server,), ("3 wrong",)):
            yield Case("remembered", ALL, evidence, ("the same request", *after))
        yield Case("remembered", ALL, evidence, ("the same request elsewhere",))


def _throttled() -> Iterator[Case]:
    histories = (
        ("2 wrong",),
        ("3 wrong",),
        ("2 wrong elsewhere", "2 wrong at a third place"),
        ("the same request", "2 wrong elsewhere", "2 wrong at a third place"),
        ("5 wrong of others",),
    )
    evidences = (
        ("basic for Genesys",),
        ("basic for Web Services",),
        ("basic wrong",),
        ("basic unknown user",),
        ("salesforce",),
        ("salesforce ended session", "basic for Web Services"),
    )
    for history, evidence in product(histories, evidences):
        yield Case("throttled", ALL, evidence, history)
    for chain, history in product(("configuration_server", "web_services"), histories[:2]):
        yield Case("throttled", chain, ("basic wrong",), history)
    yield Case("throttled", ALL, ("basic for Genesys",), ("3 wrong", "genesys 500"))
    yield Case("throttled", ALL, ("basic wrong",), ("2 wrong", "genesys 500"))


def _views() -> Iterator[Case]:
    situations: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
        (("none",), ()),
        (("basic for Web Services",), ()),
        (("basic supervisor",), ()),
        (("basic wrong",), ()),
        (("basic for Genesys",), ("genesys 500",)),
        (("basic wrong",), ("3 wrong",)),
        (("cookie",), ("login of ann",)),
        (("salesforce",), ()),
    )
    for path, kind, (evidence, before) in product(("/protected", "/role", "/asks"), ("", "-async"), situations):
        yield Case("view", ALL, evidence, before, path=path + kind)
    for kind, (evidence, before) in product(("", "-async"), situations[::2]):
        yield Case("view", ALL, evidence, before, path=f"/open{kind}")
    for chain, client, (evidence, before) in product(
        (BROWSER, "all login page", "all 403"), ("xhr", "navigation", "old browser"), situations[:6:3]
    ):
        yield Case("client", chain, evidence, before, client=client)
    for client, (evidence, before) in product(("navigation", "fetch"), situations[4:7]):
        yield Case("client", BROWSER, evidence, before, client=client, path="/role")
    for client, (evidence, before) in product(
        ("api", "own page", "other site", "allowed site"), (situations[1], situations[6], situations[7])
    ):
        yield Case("origin", "two contact centers", evidence, before, client=client, method="POST")
    for evidence, path in product((("none",), ("basic wrong",)), ("/protected", "/role")):
        yield Case("view", "all unprotected by default", evidence, path=path)


def _centers() -> Iterator[Case]:
    evidences = (
        ("none",),
        ("contact center acme",),
        ("contact center unknown",),
        ("contact center acme", "basic for Web Services"),
        ("contact center globex", "basic for Web Services"),
        ("contact center globex", "basic of acme"),
        ("contact center acme", "basic of globex"),
        ("contact center acme", "basic at globex"),
        ("contact center globex", "salesforce"),
        ("contact center globex", "basic of globex"),
        ("contact center unknown", "basic for Web Services"),
        ("host globex", "basic of globex"),
        ("host globex", "basic of acme"),
        ("host acme", "salesforce"),
        ("host globex", "salesforce"),
        ("host unknown", "basic of acme"),
        ("salesforce of globex",),
        ("salesforce", "basic of globex"),
        ("salesforce", "basic of acme"),
        ("basic gus",),
    )
    no_default = "two contact centers, no default"
    for evidence in evidences:
        yield Case("contact center", "two contact centers", evidence)
    for evidence in (("none",), ("basic for Web Services",), ("basic of acme",), ("basic of acme", "host unknown")):
        yield Case("contact center", no_default, evidence)
    for evidence in (("cookie",), ("cookie", "contact center acme"), ("cookie", "contact center unknown")):
        yield Case("contact center", "two contact centers", evidence, ("login of gus",))
    yield Case("contact center", no_default, ("cookie",), ("login of gus",))


def _more() -> Iterator[Case]:
    for outcome in ("rejected", "unavailable", "authenticated", "of another contact center", "raise", "not an outcome"):
        yield Case("extra step", "all extra step", (f"extra {outcome}",))
        yield Case("extra step", "all extra step", (f"extra {outcome}", "basic wrong"))
        yield Case("extra step", "all extra step", ("cookie", f"extra {outcome}"), ("login of bob",))
    forms: tuple[tuple[tuple[str, str], tuple[str, ...]], ...] = (
        (("ann", "known to Web Services"), ()),
        (("ann", "known to Genesys"), ()),
        (("ann", "wrong"), ()),
        (("ann", "wrong"), ("3 wrong",)),
        (("eve", "wrong"), ()),
        (("", ""), ()),
        (("ann", "known to Web Services"), ("account disabled",)),
        (("ann", "known to Genesys"), ("genesys 500",)),
        (("ann", "known to Web Services"), ("accounts down",)),
        (("ann", "known to Web Services"), ("login of bob",)),
    )
    for form, before in forms:
        yield Case("form", ALL, (), before, path="/log-in", method="POST", client="own page", form=form)
    yield Case("form", ALL, (), (), path="/log-in", method="POST", client="other site", form=forms[0][0])
