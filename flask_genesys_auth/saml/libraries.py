"""Sees to it that lxml and xmlsec, which share trees in memory, are built on the same libxml2."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from ..errors import ConfigurationError

_ADVICE = 'install a pair built on the same libxml2: pip install "lxml>=6.1.1" "xmlsec>=1.3.17"'


def check_libraries() -> None:
    """Import lxml and xmlsec together.

    :raises ConfigurationError: if they do not go together (xmlsec refuses another libxml2 than lxml's), with the
        versions that are there and those to install.
    """
    try:
        for name in ("lxml.etree", "xmlsec"):
            import_module(name)
    except Exception as error:  # xmlsec raises its own InternalError, a loader raises ImportError: one cure for both
        found = f"lxml {_version('lxml')} with xmlsec {_version('xmlsec')}"
        raise ConfigurationError(f"SAML cannot start with {found} ({error}); {_ADVICE}") from error


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(missing)"
