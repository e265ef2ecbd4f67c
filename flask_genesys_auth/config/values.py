"""The former place of the settings, until every import names the new one."""

from __future__ import annotations

from .addresses import LOOPBACK_HOSTS as LOOPBACK_HOSTS
from .addresses import AllowedHost as AllowedHost
from .addresses import LdapServer as LdapServer
from .settings import CONCURRENT_CALLS as CONCURRENT_CALLS
from .settings import ConfigurationServer as ConfigurationServer
from .settings import ContactCenterSettings as ContactCenterSettings
from .settings import IdentityProvider as IdentityProvider
from .settings import KeyPair as KeyPair
from .settings import Ldap as Ldap
from .settings import LdapAttributes as LdapAttributes
from .settings import NamedFile as NamedFile
from .settings import PasswordSettings as PasswordSettings
from .settings import Salesforce as Salesforce
from .settings import SalesforceHeaders as SalesforceHeaders
from .settings import Saml as Saml
from .settings import SessionSettings as SessionSettings
from .settings import Settings as Settings
from .settings import ThrottleSettings as ThrottleSettings
from .settings import WebServices as WebServices
