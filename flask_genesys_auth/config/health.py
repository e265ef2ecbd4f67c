"""What the configuration says of its own health: what it relaxes, and who may read the files that it names."""

from __future__ import annotations

from collections.abc import Iterator

from ..checks import Check, file_checks
from .addresses import bracketed, plain_http
from .in_the_open import store_checks
from .values import ContactCenterSettings, Settings


def configuration_checks(settings: Settings) -> Iterator[Check]:
    """Yield what is to be said of the settings themselves."""
    names = ", ".join(settings.contact_centers)
    default = f"; the default is {settings.default_contact_center}" if settings.default_contact_center else ""
    yield Check("configuration.contact_centers", "ok", f"{len(settings.contact_centers)}: {names}{default}")
    base = settings.base_path
    if base.is_dir():
        yield Check("configuration.base_path", "ok", f"relative paths are relative to {base}")
    else:
        yield Check(
            "configuration.base_path",
            "warning",
            f"relative paths are relative to {base}, which is no folder",
            "set base_path, or start the application in its own folder (app.instance_path)",
        )
    if not settings.protect_by_default:
        yield Check(
            "configuration.protect_by_default",
            "warning",
            "endpoints are open to everybody unless they are marked protected",
            "mark what everybody may see with @unprotected, then remove protect_by_default = false",
        )
    yield from _http_checks(settings)
    yield from store_checks(settings)


def files_checks(settings: Settings) -> Iterator[Check]:
    """Yield who may read and change each file that the configuration names."""
    told = set()
    for one in settings.files:
        if (one.path, one.secret) not in told:
            told.add((one.path, one.secret))
            yield from file_checks(f"files.{one.key}", one.path, secret=one.secret)


def _http_checks(settings: Settings) -> Iterator[Check]:
    if plain_http(settings.public_url):
        yield _open("public_url", settings.public_url)
    for center in settings.contact_centers.values():
        for key, address in _addresses(center):
            if plain_http(address):
                yield _open(f"contact_centers.{center.name}.{key}", address)


def _addresses(center: ContactCenterSettings) -> Iterator[tuple[str, str]]:
    yield "public_url", center.public_url
    for origin in sorted(center.allowed_origins):
        yield "allowed_origins", origin
    if center.salesforce is not None:
        for key in ("identity_hosts", "redirect_hosts"):
            for host in getattr(center.salesforce, key):
                yield f"salesforce.{key}", f"{host.scheme}://{bracketed(host.host.lstrip('.'))}"
    if center.configuration_server is not None:
        yield "configuration_server.url", center.configuration_server.url


def _open(key: str, address: str) -> Check:
    finding = f"{address} is plain http (allow_http): who is on the way reads passwords and session ids"
    return Check(f"configuration.{key}.allow_http", "warning", finding, "give it an https address, remove allow_http")
