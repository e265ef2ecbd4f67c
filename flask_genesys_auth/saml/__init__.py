"""The SAML protocol, without Flask. Imported only if a contact center has SAML; start reading in ``response``.

lxml and xmlsec share trees in memory, so both must be built on the same libxml2.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..checks import Check
from ..errors import ConfigurationError

_ADVICE = 'install a pair built on the same libxml2: pip install "lxml>=6.1.1" "xmlsec>=1.3.17"'


def check_libraries() -> None:
    """Import lxml and xmlsec together.

    :raises ConfigurationError: if xmlsec refuses lxml's libxml2, or one of them is missing.
    """
    try:
        for name in ("lxml.etree", "xmlsec"):
            import_module(name)
    except Exception as error:  # xmlsec raises InternalError, a loader ImportError
        found = f"lxml {_version('lxml')} with xmlsec {_version('xmlsec')}"
        raise ConfigurationError(f"SAML cannot start with {found} ({error}); {_ADVICE}") from error


def library_check() -> Check:
    """Return the versions of lxml and xmlsec, and of the libxml2 that each was built on."""
    from lxml import etree

    xmlsec: Any = import_module("xmlsec")
    ours = _dotted(etree.LIBXML_COMPILED_VERSION)
    finding = f"lxml {_version('lxml')} on libxml2 {ours}, xmlsec {_version('xmlsec')}"
    # Older releases of xmlsec do not report it, and only compare it when they are imported.
    of_xmlsec = getattr(xmlsec, "get_libxml_compiled_version", lambda: None)()
    if of_xmlsec is None:
        return Check("saml.libraries", "ok", finding)
    finding += f" on libxml2 {_dotted(of_xmlsec)}"
    if ours == _dotted(of_xmlsec):
        return Check("saml.libraries", "ok", finding)
    return Check("saml.libraries", "warning", f"{finding}: the versions of libxml2 differ", _ADVICE)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(missing)"


check_libraries()
