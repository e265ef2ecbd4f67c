"""A small contact-center application on top of flask-genesys-auth: a few pages and a JSON API.

``python -m sample_app`` runs it; ``sample_app:create_app`` is its WSGI factory, for gunicorn and ``flask --app``.
"""

from __future__ import annotations

from .application import build_app, create_app

__all__ = ["build_app", "create_app"]
