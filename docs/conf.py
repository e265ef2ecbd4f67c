"""The configuration of Sphinx; every warning is an error (tox.ini, docs)."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "flask-genesys-auth"
author = "The flask-genesys-auth authors"
copyright = author  # noqa: A001 - Sphinx requires this name
release = version = installed_version("flask-genesys-auth")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "flask-genesys-auth"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
nitpicky = True
# Signatures name types of other projects and of our private modules, which have no page here. Cross-references in
# prose are still checked.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|typing|types|pathlib|flask|flask_login|werkzeug|sqlalchemy|blinker|lxml)\..*"),
    (r"py:.*", r"flask_genesys_auth\.(accounts|chain|config|extension|saml|sessions|state|testing|web)\..*"),
    (r"py:(class|obj)", r"[A-Za-z_]\w*"),
]
