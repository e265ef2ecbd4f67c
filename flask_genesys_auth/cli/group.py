"""The group of all commands; one file holds each group of them."""

from __future__ import annotations

from .accounts import accounts
from .common import Commands
from .database import init_db
from .doctor import doctor
from .explain import explain
from .inspect import endpoints
from .saml import saml
from .sessions import purge, sessions

genesys_auth = Commands("genesys-auth", help="Accounts, and how requests are authenticated.")
for command in (init_db, accounts, endpoints, explain, doctor, sessions, saml, purge):
    genesys_auth.add_command(command)
