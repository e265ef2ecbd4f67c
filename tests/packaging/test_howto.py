"""The how-to pages that can run here, followed word for word."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from werkzeug.wrappers import Request, Response

from flask_genesys_auth import DirectoryEntry, Identity, Reason, Rejected
from flask_genesys_auth.testing.server import LoopbackServer
from tests.saml.plain_browser import PlainBrowser
from tests.servers import free_port, require

from .pages import Reader

TOOLS = Path(sys.executable).parent


@contextmanager
def reading(page: str, folder: Path, swaps: dict[str, str] | None = None) -> Iterator[Reader]:
    folder = folder / "empty"
    folder.mkdir()
    ports = {port: free_port() for port in (5000, 5001, 8443)}
    with Reader(f"howto/{page}.md", folder, ports=ports, tools=TOOLS, swaps=swaps) as reader:
        yield reader


def follow(page: str, folder: Path, swaps: dict[str, str] | None = None) -> None:
    with reading(page, folder, swaps) as reader:
        reader.follow()


def saved(folder: Path, name: str) -> dict[str, Any]:
    """Return the names of a module that the page has saved."""
    return runpy.run_path(str(folder / "empty" / f"{name}.py"))


@Request.application
def oracle(request: Request) -> Response:
    """The site of the example, with one session."""
    if request.cookies.get("cp_session") != "session-of-ann":
        return Response("no", 403)
    return Response(json.dumps({"login": "ann@acme.example"}), mimetype="application/json")


def test_own_step(tmp_path: Path) -> None:
    with (
        LoopbackServer(oracle) as site,
        reading("step", tmp_path, {"https://acme.custhelp.example": site.url}) as reader,
    ):
        reader.follow()


UNUSUAL = "10€ for me"


@Request.application
def staff(request: Request) -> Response:
    """The staff service of the example."""
    known = request.authorization
    good = known is not None and (known.username, known.password) in {("ann", "a long password"), ("ann", UNUSUAL)}
    return Response("ann" if good else "no", 200 if good else 401)


def test_own_directory(tmp_path: Path) -> None:
    with LoopbackServer(staff) as service:
        follow("directory", tmp_path, {"https://staff.acme.example": service.url})
        made = saved(tmp_path, "staff")["StaffDirectory"](SimpleNamespace(url=service.url, timeout=60))
        assert made.verify("ann", UNUSUAL) == DirectoryEntry({"username": "ann", "email": ""})
        assert made.verify("ann", "11€ for me") == Rejected(Reason.BAD_CREDENTIALS)


def test_own_user_model(tmp_path: Path) -> None:
    follow("user-model", tmp_path)


def test_move_from_flask_login(tmp_path: Path) -> None:
    follow("from-flask-login", tmp_path)


def test_move_from_flask_httpauth(tmp_path: Path) -> None:
    follow("from-flask-httpauth", tmp_path)
    people = saved(tmp_path, "portal")["People"]()
    assert people.find(Identity("web_services", "acme", "ann")).name == "ann"
    # A NameID is not a user name, even if it looks like one.
    assert people.find(Identity("saml", "acme", "ann", matched_by="identity", provider="okta")) is None


def test_move_from_python3_saml(tmp_path: Path) -> None:
    with reading("from-python3-saml", tmp_path) as reader:
        (hello,) = (block for block in reader.left if "the page says" in block.said)
        reader.follow(reader.left.index(hello))
        browser = PlainBrowser()
        choice = browser.get(reader.here("http://127.0.0.1:5000/saml/acme/login")).form
        answer = browser.submit(choice, user="ann@acme.example").form
        assert browser.submit(answer).text == hello.text
        browser.close()


def test_own_test_suite(tmp_path: Path) -> None:
    with reading("testing", tmp_path) as reader:
        reader.follow()
        assert "4 passed" in reader.printed


def test_behind_nginx(tmp_path: Path) -> None:
    require("nginx", "nginx")
    require("openssl", "openssl")
    follow("nginx", tmp_path)
