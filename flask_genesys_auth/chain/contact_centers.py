"""Which contact center a request belongs to: each piece of evidence names one or abstains, and all must agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..config.settings import Settings
from .evidence import BasicCredentials, Evidence, SalesforceCredentials
from .outcomes import LoginSession, NotApplicable, Reason, Rejected, StepRecord
from .protocols import ContactCenter

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

__all__ = ["RESOLUTION", "ContactCenter", "ContactCenters", "DisabledStep"]

_DISABLED = NotApplicable(Reason.DISABLED)


class DisabledStep:
    """Stands in the chain for a step that a contact center has not enabled, so that the walk shows it.

    :param name: whose place it takes.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> NotApplicable:
        """Pass the request on."""
        return _DISABLED

    def challenge(self, request: Request, contact_center: ContactCenter) -> None:
        """Offer nothing."""


RESOLUTION = "contact_center"
"""What the walk's record calls the choice of the contact center where that is as far as it came."""


class ContactCenters(Mapping[str, ContactCenter]):
    """All contact centers of one application, and the tables that tell which one a request belongs to.

    :param settings: the whole configuration.
    :param centers: one for each of ``settings.contact_centers``.
    """

    def __init__(self, settings: Settings, centers: Iterable[ContactCenter]) -> None:
        self._centers = MappingProxyType({center.name: center for center in centers})
        self._default = settings.default_contact_center
        if not self._default and len(self._centers) == 1:
            self._default = next(iter(self._centers))
        self._only = self._centers.get(self._default) if len(self._centers) == 1 else None
        self._saml_prefix = settings.saml_url_prefix + "/"
        tables = [center.settings for center in self._centers.values()]
        self._ids = {table.id: table.name for table in tables}
        self._hosts = {host: table.name for table in tables for host in table.hosts}
        self._realms = {realm: table.name for table in tables for realm in table.realms}
        self._domains = {domain: table.name for table in tables for domain in table.domains}
        self._organizations = {
            organization: table.name
            for table in tables
            if table.salesforce
            for organization in table.salesforce.organizations
        }

    def __getitem__(self, name: str) -> ContactCenter:
        return self._centers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._centers)

    def __len__(self) -> int:
        return len(self._centers)

    @property
    def default(self) -> ContactCenter | None:
        """The contact center that counts without evidence; one contact center is its own default."""
        return self._centers.get(self._default)

    def resolve(self, evidence: Evidence) -> ContactCenter | StepRecord:
        """Return the one contact center that all evidence names, or the record of why there is none.

        :raises StateUnavailable: if only a login session could tell and it cannot be read.
        """
        by_path = self._by_path(evidence.request.path)
        if by_path is not None:
            return by_path
        if evidence.contact_center_id and evidence.contact_center_id not in self._ids:
            return self._nowhere(Rejected(Reason.UNKNOWN_CONTACT_CENTER))
        if self._only is not None:
            # All other evidence names this one or abstains.
            return self._only
        named = {name for name in self._votes(evidence) if name is not None}
        if len(named) > 1:
            listed = ", ".join(sorted(named))
            return self._nowhere(Rejected(Reason.CONTACT_CENTER_CONFLICT, f"the request names {listed}"))
        if named:
            return self._centers[named.pop()]
        return self._without_evidence(evidence)

    def _by_path(self, path: str) -> ContactCenter | None:
        if not path.startswith(self._saml_prefix):
            return None
        name = path[len(self._saml_prefix) :].partition("/")[0]
        center = self._centers.get(name)
        return center if center is not None and center.settings.saml is not None else None

    def _votes(self, evidence: Evidence) -> Iterator[str | None]:
        yield self._ids.get(evidence.contact_center_id)
        if self._hosts:
            yield self._by_host(evidence.request.host)
        if isinstance(evidence.basic, BasicCredentials):
            yield self._realms.get(evidence.basic.realm)
            yield self._domains.get(evidence.basic.domain)
        if isinstance(evidence.salesforce, SalesforceCredentials):
            identity = evidence.salesforce.identity
            yield self._organizations.get(identity.organization) if identity else None

    def _by_host(self, host: str) -> str | None:
        lowered = host.lower()
        return self._hosts.get(lowered) or self._hosts.get(lowered.rpartition(":")[0])

    def _without_evidence(self, evidence: Evidence) -> ContactCenter | StepRecord:
        if len(self._centers) > 1:
            session = evidence.resume()
            if isinstance(session, LoginSession) and session.contact_center in self._centers:
                return self._centers[session.contact_center]
        return self.default or self._nowhere(NotApplicable(Reason.NO_CONTACT_CENTER))

    @staticmethod
    def _nowhere(outcome: Rejected | NotApplicable) -> StepRecord:
        return StepRecord(RESOLUTION, outcome, 0.0)
