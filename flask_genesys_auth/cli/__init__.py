"""``flask genesys-auth ...``: the commands for operators."""

from .accounts import accounts
from .base import Commands
from .database import init_db
from .doctor import doctor
from .endpoints import endpoints
from .explain import explain
from .saml import saml
from .sessions import purge, sessions

__all__ = ["genesys_auth"]

genesys_auth = Commands("genesys-auth", help="Manage accounts and login sessions; diagnose authentication.")
for command in (init_db, accounts, endpoints, explain, doctor, sessions, saml, purge):
    genesys_auth.add_command(command)
