"""Collects the names that users rely on from the output and the pages of the package.

``python -m tests.packaging.contract`` writes ``contract_names.json``. This module imports only the public modules that
``docs/api.md`` names.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from enum import Enum
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import flask_login
from blinker import NamedSignal
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

import flask_genesys_auth
import flask_genesys_auth.testing
from flask_genesys_auth import GenesysAuth, Reason, current_user, unprotected
from flask_genesys_auth.testing import (
    AuthClient,
    DevelopmentIdentityProvider,
    GenesysEmulator,
    SalesforceEmulator,
)
from sample_app.application import build_app

NAMES = Path(__file__).with_name("contract_names.json")
DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "a password of the tests\n"
_KEY = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
(_ENTRY,) = entry_points(group="flask.commands", name="genesys-auth")


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """Return the text below a heading, up to the next heading of any depth."""
    _, found, rest = text.partition(f"{heading}\n")
    assert found, heading
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def reason_codes() -> list[str]:
    """Return the codes of steps: the public enumeration."""
    return sorted(str(reason) for reason in Reason)


def saml_reason_codes() -> list[str]:
    """Return the codes of SAML messages, from the page that ``tests/cli/test_advice.py`` compares with the code."""
    return sorted(_KEY.findall(section(page("reasons.md"), "## Of a SAML message")))


def log_events() -> dict[str, str]:
    """Return each event's level and its own fields, from the page that ``tests/events`` compares with the code."""
    text = section(page("observability.md"), "## The log")
    rows = re.findall(r"^\| `(\w+)` \| (debug|info|warning|error) \|.*\|([^|]*)\|$", text, re.MULTILINE)
    return {event: " ".join([level, *re.findall(r"`(\w+)`", more)]) for event, level, more in rows}


def log_fields() -> list[str]:
    """Return the fields of every record, from the same page."""
    return _KEY.findall(section(page("observability.md"), "## The log").partition("| event |")[0])


def signals() -> dict[str, str]:
    """Return each signal's name, by its public name."""
    found = {name: getattr(flask_genesys_auth, name) for name in flask_genesys_auth.__all__}
    return {name: one.name for name, one in found.items() if type(one) is NamedSignal}


def signal_values() -> dict[str, list[str]]:
    """Return the values of each signal, from the page that ``tests/events`` compares with the code."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (`[^|]*) \|$", section(page("observability.md"), "## Signals"), re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", values)) for name, values in rows}


def configuration_keys() -> list[str]:
    """Return each key with its path: the pages, which ``test_configuration_reference.py`` holds to the schemas."""
    found = []
    pages = "\n".join(path.read_text("utf-8") for path in sorted(DOCS.glob("configuration*.md")))
    for table, rows in re.findall(r"^## `\[(GENESYS_AUTH[^\]]*)\]`\n(.*?)(?=^## |\Z)", pages, re.M | re.S):
        found += [f"{table}.{key}" for key in _KEY.findall(rows)]
    return sorted(found)


def public_names() -> dict[str, list[str]]:
    """Return the public names of the package, each with its parameters and, of a class, its members."""
    found = {}
    for module in (flask_genesys_auth, flask_genesys_auth.testing):
        for name in module.__all__:
            value = getattr(module, name)
            found[f"{module.__name__}.{name}"] = _parameters(value) + (
                _members(value) if isinstance(value, type) else []
            )
    return found


def _members(value: type) -> list[str]:
    """Return the public members of a class, which a class of a user's own must provide."""
    ours = [one for one in value.__mro__ if one.__module__.startswith("flask_genesys_auth")]
    declared = {name: getattr(one, name, None) for one in ours for name in (*vars(one), *inspect.get_annotations(one))}
    public = {name: member for name, member in declared.items() if not name.startswith("_")}
    return sorted(f"{name}{' '.join(_parameters(member))}" for name, member in public.items())


def _parameters(value: object) -> list[str]:
    """Return the names of the parameters of a function or of a class's constructor."""
    made = isinstance(value, type) and not issubclass(value, (Enum, BaseException)) and not _is_protocol(value)
    if not made and not inspect.isfunction(value) and not inspect.ismethod(value):
        return []
    parameters = inspect.signature(value).parameters  # type: ignore[arg-type]  # a class or a function
    return [f"({', '.join(name for name in parameters if name != 'self')})"]


def _is_protocol(value: type) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def commands() -> dict[str, list[str]]:
    """Return each command with its arguments and options, from the entry point that Flask finds."""
    return dict(_commands(_ENTRY.load(), ""))


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, list[str]]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", [_parameter(one) for one in command.params]


def _parameter(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        text = parameter.human_readable_name.upper()
        return text if parameter.required else f"[{text}]"
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


class Desk:
    """A complete deployment for commands and requests.

    :param folder: where its files are.
    """

    def __init__(self, folder: Path, salesforce: SalesforceEmulator, genesys: GenesysEmulator) -> None:
        self.folder = folder
        self.headers = salesforce.add_user("ann")
        DevelopmentIdentityProvider("https://idp.acme.example").write_metadata(folder / "idp.xml")
        self.settings: dict[str, Any] = {
            "public_url": "https://portal.acme.example",
            "base_path": str(folder),
            "passwords": {"memory_kib": 8, "iterations": 1},
            "throttle": {"per_account": "2 per hour"},
            "default_contact_center": "acme",
            "contact_centers": {
                "acme": {
                    "salesforce": {"organizations": [salesforce.organization], "identity_hosts": [salesforce.url]},
                    "configuration_server": {
                        "directory": "genesys",
                        "url": genesys.url,
                        "client_id": genesys.client_id,
                        "client_secret": {"file": "client-secret"},
                    },
                    "web_services": {},
                    "saml": {
                        "signing_key": {"file": "sp.key"},
                        "signing_certificate": {"file": "sp.crt"},
                        "identity_providers": {"okta": {"metadata": "idp.xml", "allow_unsolicited": True}},
                    },
                },
                "globex": {"web_services": {}},
            },
        }
        (folder / "client-secret").write_text(genesys.client_secret, "utf-8")
        for name, user_name in (("people.json", "bob"), ("bad.json", "")):
            (folder / name).write_text(json.dumps([{"contact_center": "acme", "user_name": user_name}]), "utf-8")

    @cached_property
    def app(self) -> Flask:
        """The application, with an account that has a login session."""
        key, certificate = str(self.folder / "sp.key"), str(self.folder / "sp.crt")
        keygen = ("saml", "keygen", "--out-key", key, "--out-cert", certificate, "--bits", "2048")
        self.run(*keygen, app=lambda: Flask("bare"))
        app = self.portal()
        self.run("init-db", app=app)
        add = ("accounts", "add", "acme", "ann", "--role", "ROLE_AGENT", "--password-stdin")
        self.run(*add, app=app, stdin=PASSWORD)
        app.test_client(user="ann")
        return app

    def portal(self, prepare: Callable[[Flask], object] = lambda app: None, /, **settings: Any) -> Flask:
        """Return an application with this configuration."""
        app = Flask("portal", instance_path=str(self.folder))
        app.secret_key = "a secret key of the tests, long enough"
        app.test_client_class = AuthClient
        app.config.update(TESTING=True, GENESYS_AUTH={**self.settings, **settings})
        prepare(app)
        GenesysAuth(app)
        app.add_url_rule("/", "home", lambda: f"Hello {current_user.user_name}")
        app.add_url_rule("/healthz", "healthz", unprotected(lambda: "ok"))
        return app

    def run(self, *arguments: str, app: Any = None, stdin: str = "") -> Result:
        """Run a command, as ``flask`` does."""
        made = app or self.app
        create = made if callable(made) and not isinstance(made, Flask) else lambda: made
        group = FlaskGroup(create_app=create, load_dotenv=False, set_debug_flag=False)
        return CliRunner().invoke(group, ["genesys-auth", *arguments], input=stdin)

    def json(self, *arguments: str, app: Any = None) -> Any:
        done = self.run(*arguments, "--json", app=app)
        assert done.stdout.startswith(("{", "[")), f"{' '.join(arguments)} --json: {done.output}"
        return json.loads(done.stdout)


def json_keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every key; ``[]`` is each item of a list."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{path}.{key}".lstrip(".")
            yield from json_keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from json_keys(inner, f"{path}[]")


def _all_keys(*values: Any) -> list[str]:
    return sorted({key for value in values for key in json_keys(value)})


def command_keys(desk: Desk) -> dict[str, list[str]]:
    """Return the keys of each command's ``--json`` output, from successful and failed runs."""
    import_file, bad_file = desk.folder / "people.json", desk.folder / "bad.json"
    wrong = ("-H", "Authorization: Basic YW5uOndyb25n")
    api = desk.app.test_client()
    explained = [desk.json("explain", "GET", "/"), desk.json("explain", "GET", "/", *wrong)]
    explained.append(
        desk.json("explain", "GET", "/", "-H", f"ssid: {desk.headers['ssid']}", "-H", f"surl: {desk.headers['surl']}")
    )
    explained.append(desk.json("explain", "GET", "/", "-H", "Accept: text/html"))
    for _ in range(2):
        api.get("/", auth=("ann", "wrong"))
    explained.append(desk.json("explain", "GET", "/", *wrong))
    reference = _failed_login(desk)
    return {
        "accounts list": _all_keys(desk.json("accounts", "list")),
        "accounts show": _all_keys(desk.json("accounts", "show", "acme", "ann")),
        "accounts roles": _all_keys(desk.json("accounts", "roles", "acme", "ann")),
        "accounts import": _all_keys(
            desk.json("accounts", "import", str(import_file), "--dry-run"),
            desk.json("accounts", "import", str(bad_file)),
        ),
        "endpoints": _all_keys(desk.json("endpoints")),
        "explain": _all_keys(*explained),
        "explain --reference": _all_keys(desk.json("explain", "--reference", reference)),
        "doctor": _all_keys(desk.json("doctor", "--offline")),
        "sessions list": _all_keys(desk.json("sessions", "list")),
        "purge": _all_keys(desk.json("purge")),
        "saml refresh": _all_keys(
            desk.json("saml", "refresh"),
            desk.json("saml", "refresh", app=_without_metadata(desk)),
        ),
    }


def _failed_login(desk: Desk) -> str:
    """Make a SAML login fail; return the reference that its page shows."""
    page = desk.app.test_client().post(
        "/saml/acme/acs", data={"SAMLResponse": "x"}, base_url="https://portal.acme.example"
    )
    found = re.search(r"\b[0-9a-f]{8}\b", page.text)
    assert page.status_code == 400
    assert found is not None
    return found[0]


def _without_metadata(desk: Desk) -> Flask:
    """Return an application whose provider's metadata file was deleted after the start."""
    path = desk.folder / "gone.xml"
    path.write_bytes((desk.folder / "idp.xml").read_bytes())
    saml = {**desk.settings["contact_centers"]["acme"]["saml"], "identity_providers": {"okta": {"metadata": str(path)}}}
    app = desk.portal(contact_centers={"acme": {"saml": saml}})
    path.unlink()
    return app


def api_keys(desk: Desk) -> dict[str, list[str]]:
    """Return the keys of the envelope of a refusal, and of the sample application's answers."""
    refusal = desk.app.test_client().get("/").json
    configuration = {
        "SECRET_KEY": "a secret key of the tests, long enough",
        "SAMPLE_DEMONSTRATION": True,
        "GENESYS_AUTH": desk.settings,
    }
    client = build_app(configuration, desk.folder).test_client()
    auth = ("ann", PASSWORD.strip())
    return {
        "refusal": _all_keys(refusal),
        "GET /api/v2/diagnostics/walk": _all_keys(
            client.get("/api/v2/diagnostics/walk", auth=auth).json, client.get("/api/v2/diagnostics/walk").json
        ),
        "GET /api/v2/diagnostics/version": _all_keys(client.get("/api/v2/diagnostics/version").json),
        "GET /api/v2/me": _all_keys(client.get("/api/v2/me", auth=auth).json),
    }


def addresses(desk: Desk) -> list[str]:
    """Return the URLs of our own endpoints, from the command ``endpoints``."""
    rows = desk.json("endpoints")
    return sorted({f"{row['endpoint']} {row['rule']}" for row in rows if row["endpoint"].startswith("genesys_")})


def check_names(desk: Desk) -> list[str]:
    """Return the names of ``doctor``'s checks, without the parts that vary between deployments."""

    def with_own_manager(app: Flask) -> None:
        flask_login.LoginManager(app).session_protection = "basic"
        app.config["LOGIN_DISABLED"] = False

    # No server listens on port 1: only the names of the checks matter here.
    ldap = {"servers": ["ldap://127.0.0.1:1"], "start_tls": False, "base": "dc=acme"}
    throttle = {"storage_url": "redis://127.0.0.1:1/1"}
    postgresql = "postgresql+psycopg://127.0.0.1:1/none"
    applications = (
        desk.app,
        desk.portal(with_own_manager, login_view="login", unprotected_endpoints=["nothing"]),
        desk.portal(state_url="redis://127.0.0.1:1/0", throttle=throttle),
        desk.portal(contact_centers={"acme": {"configuration_server": {"directory": "ldap", "ldap": ldap}}}),
        desk.portal(state_url=postgresql, accounts_url=postgresql),
        lambda: desk.portal(contact_centers={"acme": {"web_servces": {}}}),
        lambda: Flask("bare"),
    )
    found = {check["name"] for app in applications for check in desk.json("doctor", app=app)["checks"]}
    return sorted({_general(name, desk) for name in found})


def _general(name: str, desk: Desk) -> str:
    """Return a check's name without ports and paths."""
    return re.sub(r":\d{2,5}\b", ":PORT", name.replace(str(desk.folder), "FOLDER"))


def exit_statuses(desk: Desk) -> dict[str, int]:
    """Return the exit status of each command, in success and failure."""
    sue = ("acme", "sue")
    runs: tuple[tuple[str, ...], ...] = (
        ("init-db",),
        ("accounts", "add", *sue),
        ("accounts", "add", *sue),
        ("accounts", "add", "initech", "sue"),
        ("accounts", "list"),
        ("accounts", "show", *sue),
        ("accounts", "show", "acme", "eve"),
        ("accounts", "set-password", *sue, "--password-stdin"),
        ("accounts", "disable", *sue),
        ("accounts", "enable", *sue),
        ("accounts", "disable", "acme", "eve"),
        ("accounts", "roles", *sue, "ROLE_AGENT"),
        ("accounts", "link", *sue, "okta=sue"),
        ("accounts", "link", *sue, "nobody"),
        ("accounts", "unlink", *sue, "okta=sue"),
        ("accounts", "delete", *sue),
        ("accounts", "delete", *sue),
        ("accounts", "import", "people.json"),
        ("accounts", "import", "bad.json"),
        ("accounts", "import", "missing.json"),
        ("endpoints",),
        ("explain", "GET", "/"),
        ("explain", "GET"),
        ("explain", "--reference", "0123abcd"),
        ("explain", "--reference", "x"),
        ("doctor", "--offline"),
        ("doctor", "--offline", "--strict"),
        ("sessions", "list"),
        ("sessions", "revoke"),
        ("sessions", "revoke", "--account", "ann", "--yes"),
        ("sessions", "revoke", "--account", "ann", "--yes"),
        ("purge",),
        ("saml", "metadata"),
        ("saml", "metadata", "initech"),
        ("saml", "refresh"),
        ("saml", "keygen"),
        ("purge", "--nonsense"),
        ("nonsense",),
    )
    found: dict[str, int] = {}
    for run in runs:
        given = [str(desk.folder / one) if one.endswith(".json") else one for one in run]
        name = " ".join(run)
        # A second run of the same command meets what the first has left.
        found[f"{name} (again)" if name in found else name] = desk.run(*given, stdin=PASSWORD).exit_code
    found["saml refresh (metadata gone)"] = desk.run("saml", "refresh", app=_without_metadata(desk)).exit_code
    found["doctor (configuration refused)"] = desk.run("doctor", app=lambda: desk.portal(contact_centers={})).exit_code
    found["accounts list (configuration refused)"] = desk.run(
        "accounts", "list", app=lambda: desk.portal(contact_centers={})
    ).exit_code
    return found


FROM_CODE_AND_PAGES: Mapping[str, Callable[[], Any]] = {
    "reason codes": reason_codes,
    "reason codes of SAML messages": saml_reason_codes,
    "log events, with their level and fields": log_events,
    "log fields": log_fields,
    "signals": signals,
    "values of signals": signal_values,
    "configuration keys": configuration_keys,
    "public names": public_names,
    "commands": commands,
}
FROM_A_DEPLOYMENT: Mapping[str, Callable[[Desk], Any]] = {
    "keys of --json": command_keys,
    "keys of HTTP answers": api_keys,
    "addresses": addresses,
    "check names": check_names,
    "exit statuses": exit_statuses,
}
KINDS = (*FROM_CODE_AND_PAGES, *FROM_A_DEPLOYMENT)
"""The kinds of names. Each function gets a new deployment."""


def collect(kind: str) -> Any:
    """Return the names of one kind."""
    if kind in FROM_CODE_AND_PAGES:
        return FROM_CODE_AND_PAGES[kind]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        salesforce, genesys = SalesforceEmulator(), GenesysEmulator()
        for emulator in (salesforce, genesys):
            stack.enter_context(emulator.serve())
        return FROM_A_DEPLOYMENT[kind](Desk(folder, salesforce, genesys))


def main() -> None:
    """Write the list."""
    NAMES.write_text(json.dumps({kind: collect(kind) for kind in KINDS}, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{NAMES.name} is written\n")


if __name__ == "__main__":
    main()
