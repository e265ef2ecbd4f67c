"""A small contact-center application on top of flask-genesys-auth: a few pages and a JSON API.

``python -m sample_app`` runs it; ``sample_app:create_app`` is its WSGI factory, for gunicorn and ``flask --app``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import build_app, create_app

__all__ = ["build_app", "create_app"]


def __getattr__(name: str) -> Any:
    # Imported on first use: ``python -m sample_app`` installs its signal handlers first.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import application

    return getattr(application, name)
