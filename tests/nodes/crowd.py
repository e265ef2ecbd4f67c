"""The visitors of a portal: of every step, with good credentials and with bad ones, with and without a session."""

from __future__ import annotations

from base64 import b64encode
from itertools import count

from tests.saml.plain_browser import PlainBrowser

from .client import Answer, Client
from .deployment import PASSWORD, PROVIDER, Deployment
from .load import Judge, Known, Load, Session, Stranger, Verdict, Visitor

_numbers = count(1)


class SamlLogin(Visitor):
    """Logs in at the identity provider each time with a new browser, and logs out here.

    :param name: whom the provider vouches for.
    """

    def __init__(self, deployment: Deployment, name: str) -> None:
        super().__init__("SAML")
        self._deployment = deployment
        self._name = name

    def turn(self, client: Client, judge: Judge) -> Verdict:
        """Log in, look who it is, log out."""
        browser = PlainBrowser(ca_file=self._deployment.ca_file)
        try:
            choice = browser.get(f"{self._deployment.url}/saml/acme/login?next=/agent")
            page = browser.submit(browser.submit(choice.form, user=self._name).form)
            client.cookies = browser.cookies(self._deployment.url)
        finally:
            browser.close()
        if not judge.documented(Answer(page.status, page.headers, page.text.encode()), 200):
            return "not served"
        if self._name not in page.text:
            judge.wrong(f"{self._name} was taken for somebody else")
        # To the provider, which would end its own session too.
        judge.documented(client.log_out(), 303)
        client.cookies = {}
        return "served"


def crowd(deployment: Deployment, *, turns: int = 25) -> list[Visitor]:
    """Return new visitors of a portal, who have accounts there; call it once for each load.

    :param turns: requests that a session lasts.
    """
    number = next(_numbers)
    names = {who: f"{who}-{number}@acme.example" for who in ("sally", "carl", "wendy", "ann", "bob")}
    for name in names.values():
        deployment.add(name)
    outside = deployment.outside
    genesys = outside.genesys.add_user(names["carl"], "what Configuration Server knows")
    surl = outside.salesforce.add_user(f"victim-{number}@acme.example")
    return [
        Known("salesforce", outside.salesforce.add_user(names["sally"]), names["sally"]),
        Known("configuration server", genesys, names["carl"]),
        Known("web services", basic(names["wendy"], PASSWORD), names["wendy"]),
        Session("session", names["ann"], PASSWORD, turns=turns),
        Session("session", names["bob"], PASSWORD, turns=turns),
        Stranger("wrong password", lambda turn: basic(names["wendy"], f"guess {turn}")),
        Stranger("unknown user", lambda turn: basic(f"nobody-{turn % 500}@acme.example", PASSWORD)),
        Stranger("wrong Salesforce session", lambda turn: {**surl, "ssid": f"00D000000000001!guess{turn}"}),
    ]


def saml_crowd(deployment: Deployment) -> list[Visitor]:
    """Return a visitor who logs in with SAML."""
    name = f"simon-{next(_numbers)}@acme.example"
    deployment.outside.provider.add_user(name)
    deployment.add(name, identities=[(PROVIDER, name)])
    return [SamlLogin(deployment, name)]


def broken_crowd(deployment: Deployment) -> list[Visitor]:
    """Return a user of each of the broken Salesforces."""
    number = next(_numbers)
    visitors: list[Visitor] = []
    for fault, emulator in deployment.outside.broken.items():
        name = f"{fault}-{number}@acme.example"
        deployment.add(name, contact_center=fault, password_hash=None)
        visitors.append(Known(f"{fault} Salesforce", emulator.add_user(name), name))
    return visitors


def load(deployment: Deployment, visitors: list[Visitor], **more: object) -> Load:
    """Return a load of these visitors, each from an address of its own, by nginx."""

    def connect(address: str) -> Client:
        return deployment.client(address=address)

    return Load(visitors, connect, **more)  # type: ignore[arg-type]  # passed through


def basic(name: str, password: str) -> dict[str, str]:
    """Return the header of Basic credentials, in UTF-8 (RFC 7617 2.1)."""
    return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}
