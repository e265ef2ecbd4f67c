"""The SAML protocol, without Flask: nothing here is imported unless a contact center has SAML."""

from __future__ import annotations

from .libraries import check_libraries

check_libraries()
