"""Two nodes behind nginx are one portal: what one has begun the other goes on with, what one has ended is ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_genesys_auth.testing.saml_messages import LogoutMessage
from tests.saml.plain_browser import Form, Page, PlainBrowser

from .client import Client
from .deployment import PASSWORD, PROVIDER, Deployment

ME = "/api/v2/me"


@pytest.fixture
def browser(deployment: Deployment) -> Iterator[PlainBrowser]:
    made = PlainBrowser(ca_file=deployment.ca_file)
    yield made
    made.close()


@pytest.fixture(scope="session")
def people() -> Callable[[str], str]:
    """Return unique user names."""
    taken: Counter[str] = Counter()

    def name(who: str) -> str:
        taken[who] += 1
        return f"{who}{taken[who]}@acme.example"

    return name


@pytest.fixture
def simon(deployment: Deployment, people: Callable[[str], str]) -> str:
    """Add an account and a user of the identity provider, both of one name; return it."""
    name = people("simon")
    deployment.outside.provider.add_user(name)
    deployment.outside.provider.add_service_provider(_metadata(deployment))
    deployment.add(name, identities=[(PROVIDER, name)])
    return name


@pytest.fixture
def wendy(deployment: Deployment, people: Callable[[str], str]) -> str:
    """Add a user with a password; return the name."""
    name = people("wendy")
    deployment.add(name)
    return name


def _metadata(deployment: Deployment) -> bytes:
    with deployment.client() as client:
        return client.ask("/saml/acme/metadata").body


def signed_in(deployment: Deployment, browser: PlainBrowser, name: str) -> Page:
    choice = browser.get(f"{deployment.url}/saml/acme/login?next=/agent")
    return browser.submit(browser.submit(choice.form, user=name).form)


def answered_by(deployment: Deployment, *paths: str) -> list[str]:
    """The nodes that answered the last requests to these paths."""
    lines = deployment.nginx.lines()
    return [next(line for line in reversed(lines) if line[2] == path)[4] for path in paths]


def resumed(deployment: Deployment, browser: PlainBrowser, node: int) -> Client:
    """The same browser's cookies, for one node."""
    client = deployment.nodes[node].client()
    client.cookies = browser.cookies(deployment.url)
    return client


def user_of(client: Client) -> str | int:
    answer = client.ask(ME)
    name: str = answer.json["user"]["userName"] if answer.status == 200 else ""
    return name or answer.status


def test_login_begun_on_one_node_finishes_on_another(deployment: Deployment, browser: PlainBrowser, simon: str) -> None:
    page = signed_in(deployment, browser, simon)
    assert page.status == 200
    assert simon in page.text
    begun, posted, completed = answered_by(deployment, "/saml/acme/login", "/saml/acme/acs", "/saml/acme/complete")
    assert begun != posted != completed
    for node in (0, 1):
        with resumed(deployment, browser, node) as client:
            assert user_of(client) == simon


def test_logout_on_one_node_counts_on_the_other(deployment: Deployment, wendy: str) -> None:
    with deployment.nodes[0].client() as one, deployment.nodes[1].client() as other:
        assert one.log_in(wendy, PASSWORD).status == 303
        other.cookies = dict(one.cookies)
        kept = dict(one.cookies)
        assert user_of(other) == wendy
        assert other.log_out().status == 303
        for client in (one, other):
            client.cookies = dict(kept)
            assert user_of(client) == 401


def test_providers_logout_without_cookie_works_on_any_node(
    deployment: Deployment, browser: PlainBrowser, simon: str, people: Callable[[str], str]
) -> None:
    provider = deployment.outside.provider
    signed_in(deployment, browser, simon)
    with (
        resumed(deployment, browser, 0) as one,
        resumed(deployment, browser, 1) as other,
        deployment.nodes[1].client() as bare,
    ):
        assert user_of(one) == user_of(other) == simon

        def ask_to_end(name_id: str) -> int:
            message = LogoutMessage(provider.entity_id, f"{deployment.url}/saml/acme/slo").but(
                name_id=name_id, session_indexes=()
            )
            return bare.ask(f"/saml/acme/slo?{message.query(provider.key)}").status

        assert ask_to_end(people("somebody-else")) == 303
        assert user_of(one) == user_of(other) == simon
        assert ask_to_end(simon) == 303
        assert user_of(one) == user_of(other) == 401


def posted_response(deployment: Deployment, browser: PlainBrowser, name: str) -> Form:
    choice = browser.get(f"{deployment.url}/saml/acme/login?next=/agent")
    form = browser.submit(choice.form, user=name).form
    assert form.action == f"{deployment.url}/saml/acme/acs"
    return form


def test_response_accepted_once_is_refused_on_both_nodes(
    deployment: Deployment, browser: PlainBrowser, simon: str
) -> None:
    form = posted_response(deployment, browser, simon)
    with deployment.nodes[0].client() as one, deployment.nodes[1].client() as other:
        taken = one.ask("/saml/acme/acs", form=form.fields)
        assert taken.status == 303
        assert "/saml/acme/complete" in taken.headers["location"]
        for client in (other, one):
            assert client.ask("/saml/acme/acs", form=form.fields).status == 400
    # The one that was taken still logs the right browser in, and once.
    page = browser.get(taken.headers["location"])
    assert simon in page.text
    assert browser.get(taken.headers["location"]).status == 400


def test_one_of_twenty_parallel_identical_responses_is_accepted(
    deployment: Deployment, browser: PlainBrowser, simon: str
) -> None:
    form = posted_response(deployment, browser, simon)
    together = threading.Barrier(20)

    def post(number: int) -> tuple[int, str]:
        with deployment.nodes[number % 2].client() as client:
            client.ask("/healthz")
            together.wait(60)
            answer = client.ask("/saml/acme/acs", form=form.fields)
            return answer.status, answer.headers.get("location", "")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert Counter(status for status, _ in answers) == {303: 1, 400: 19}
    (won,) = [location for status, location in answers if status == 303]
    assert simon in browser.get(won).text


def test_disabled_account_is_refused_immediately_on_both_nodes(
    deployment: Deployment, people: Callable[[str], str]
) -> None:
    name = people("leaver")
    account = deployment.add(name)
    clients = [deployment.nodes[0].client(), deployment.nodes[1].client()]
    try:
        for client in clients:
            assert client.log_in(name, PASSWORD).status == 303
            assert user_of(client) == name
        deployment.accounts.set_enabled(account, False)
        assert [user_of(client) for client in clients] == [401, 401]
        for client in clients:
            client.cookies.clear()
            assert client.log_in(name, PASSWORD).status == 401
    finally:
        for client in clients:
            client.close()


def test_logout_ends_only_one_of_two_sessions(deployment: Deployment, simon: str, wendy: str) -> None:
    with deployment.nodes[0].client() as one, deployment.nodes[1].client() as other:
        for client in (one, other):
            assert client.log_in(wendy, PASSWORD).status == 303
        assert one.log_out().status == 303
        # Each login is a session of its own.
        assert (user_of(one), user_of(other)) == (401, wendy)


def test_only_nginx_sets_the_client_address(deployment: Deployment, wendy: str) -> None:
    told = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Forwarded": "for=203.0.113.9"}
    with deployment.client(address="127.0.3.5", headers=told) as client:
        assert client.log_in(wendy, "wrong").status == 401
        assert client.log_in(wendy, PASSWORD).status == 303
        # By https, so that the cookie is for https alone.
        assert user_of(client) == wendy
    assert deployment.nginx.lines()[-1][0] == "127.0.3.5"
    assert "203.0.113.9" not in deployment.logs()
    assert "127.0.3.5" in deployment.logs()


def test_nginx_redirects_to_https_and_logs_no_query(deployment: Deployment, browser: PlainBrowser, simon: str) -> None:
    with Client(f"http://127.0.0.1:{deployment.nginx.http_port}") as plain:
        sent = plain.ask("/agent?x=1")
        assert (sent.status, sent.headers["location"]) == (301, "https://127.0.0.1/agent?x=1")
    signed_in(deployment, browser, simon)
    log = deployment.nginx.log.read_text("utf-8")
    assert "/saml/acme/complete" in log
    assert "?" not in log
