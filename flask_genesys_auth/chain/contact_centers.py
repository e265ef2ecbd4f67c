"""Contact centers: the steps of each in order, and which one a request belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..config.settings import Settings
from ..errors import ConfigurationError
from .evidence import BasicCredentials, Evidence, SalesforceCredentials
from .outcomes import LoginSession, NotApplicable, Reason, Rejected, StepRecord
from .protocols import ContactCenter, Step

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

__all__ = ["ORDER", "RESOLUTION", "ContactCenter", "ContactCenters", "DisabledStep", "order_steps"]

ORDER = ("salesforce", "configuration_server", "web_services", "login_session", "saml")
"""The Web Services authentication flow; ``login_session`` resumes a session that ``saml`` or a login form created."""

RESOLUTION = "contact_center"
"""The step name in the record of a walk that ends before its first step."""

_DISABLED = NotApplicable(Reason.DISABLED)


class DisabledStep:
    """Takes the place of a step that a contact center has not enabled, so that the record of a walk shows it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> NotApplicable:
        """Return ``NotApplicable``."""
        return _DISABLED

    def challenge(self, request: Request, contact_center: ContactCenter) -> None:
        """Offer nothing."""


def order_steps(own: Iterable[Step], extra: Sequence[Step]) -> tuple[Step, ...]:
    """Return all steps in the order of the walk, which is not configurable.

    :param own: one step for each name of :data:`ORDER`.
    :param extra: each is placed before ``login_session``, or before the step that its ``before`` names; steps with the
        same place keep their order.
    :raises ConfigurationError: if two steps have the same name, or ``before`` names no step.
    """
    steps = sorted(own, key=lambda step: ORDER.index(step.name))
    for step in extra:
        names = [present.name for present in steps]
        place = getattr(step, "before", None) or "login_session"
        if not isinstance(getattr(step, "name", None), str) or not step.name or step.name in names:
            raise ConfigurationError(
                f"extra_steps: {type(step).__qualname__} needs a name of its own, other than {', '.join(names)}"
            )
        if place not in names:
            raise ConfigurationError(f"extra_steps: {step.name} has before = {place!r}: name one of {', '.join(names)}")
        steps.insert(names.index(place), step)
    return tuple(steps)


class ContactCenters(Mapping[str, ContactCenter]):
    """All contact centers of one application, with look-up tables for the evidence that names them."""

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
        """The contact center of a request without evidence; a single contact center is the default."""
        return self._centers.get(self._default)

    def resolve(self, evidence: Evidence) -> ContactCenter | StepRecord:
        """Return the one contact center that all evidence names, or the record of why there is none.

        :raises StateUnavailable: if the login session has to decide and cannot be read.
        """
        by_path = self._by_path(evidence.request.path)
        if by_path is not None:
            return by_path
        if evidence.contact_center_id and evidence.contact_center_id not in self._ids:
            return _unresolved(Rejected(Reason.UNKNOWN_CONTACT_CENTER))
        if self._only is not None:
            # All other evidence names this one or none.
            return self._only
        named = {name for name in self._named(evidence) if name is not None}
        if len(named) > 1:
            listed = ", ".join(sorted(named))
            return _unresolved(Rejected(Reason.CONTACT_CENTER_CONFLICT, f"the request names {listed}"))
        if named:
            return self._centers[named.pop()]
        return self._without_evidence(evidence)

    def _by_path(self, path: str) -> ContactCenter | None:
        """Return the contact center of a SAML address: there the path alone decides."""
        if not path.startswith(self._saml_prefix):
            return None
        center = self._centers.get(path[len(self._saml_prefix) :].partition("/")[0])
        return center if center is not None and center.settings.saml is not None else None

    def _named(self, evidence: Evidence) -> Iterator[str | None]:
        """Yield the contact center that each piece of evidence names, or ``None``."""
        yield self._ids.get(evidence.contact_center_id)
        if self._hosts:
            host = evidence.request.host.lower()
            yield self._hosts.get(host) or self._hosts.get(host.rpartition(":")[0])
        if isinstance(evidence.basic, BasicCredentials):
            yield self._realms.get(evidence.basic.realm)
            yield self._domains.get(evidence.basic.domain)
        if isinstance(evidence.salesforce, SalesforceCredentials):
            identity = evidence.salesforce.identity
            yield self._organizations.get(identity.organization) if identity else None

    def _without_evidence(self, evidence: Evidence) -> ContactCenter | StepRecord:
        if len(self._centers) > 1:
            session = evidence.resume()
            if isinstance(session, LoginSession) and session.contact_center in self._centers:
                return self._centers[session.contact_center]
        return self.default or _unresolved(NotApplicable(Reason.NO_CONTACT_CENTER))


def _unresolved(outcome: Rejected | NotApplicable) -> StepRecord:
    return StepRecord(RESOLUTION, outcome, 0.0)
