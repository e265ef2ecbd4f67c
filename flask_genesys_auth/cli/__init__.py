"""``flask genesys-auth ...``: the commands for whoever runs the application."""

from .group import genesys_auth

__all__ = ["genesys_auth"]
