"""Whom a contact center trusts: each identity provider as its metadata describe it at this moment."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import xmlsec
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from ..errors import ConfigurationError
from ..events import Event, log_event
from ..processes import PerProcess
from .documents import as_instant
from .errors import Fault, MetadataUnavailable, SamlError
from .metadata import BINDINGS, Endpoint, MetadataRefused, ProviderMetadata
from .signatures import load_key
from .sources import FETCH_TIMEOUT, Copy, Source

if TYPE_CHECKING:
    from ..config.settings import IdentityProvider
    from .keys import OwnKeys

UNSPECIFIED: str = Constants.NAMEID_UNSPECIFIED

METADATA_WAIT = FETCH_TIMEOUT + 5
"""Seconds for which a thread waits, at most, while another one fetches the metadata."""

# Seconds between two attempts, at first and at last: while nobody can log in, and while the last good copy serves.
_FIRST_PAUSES = (5.0, 60.0)
_PAUSES = (60.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Trust:
    """One identity provider at one moment; whoever handles a message takes one and keeps to it.

    :param settings: its configuration.
    :param keys: those that may have signed, all of them: while it rolls over it has two.
    :param toolkit: python3-saml's settings, for messages to it. Holds the signing key.
    :param referees: the same for messages from it, one with each of our decryption keys.
    """

    settings: IdentityProvider
    metadata: ProviderMetadata
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    toolkit: OneLogin_Saml2_Settings = field(repr=False)
    referees: tuple[OneLogin_Saml2_Settings, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The name of its table."""
        return self.settings.name

    @property
    def entity_id(self) -> str:
        """Its own name for itself."""
        return self.metadata.entity_id

    def check_valid(self, now: float) -> None:
        """Make sure that the metadata have not expired.

        :param now: unix time.
        :raises SamlError: if they have.
        """
        ends = self.metadata.valid_until
        if ends is not None and now >= ends:
            raise SamlError(
                Fault.METADATA_EXPIRED, f"the provider's metadata ended at {as_instant(ends)}, it is {as_instant(now)}"
            )


class TrustBuilder:
    """Builds the :class:`Trust` of a provider from its metadata. One for all providers of a contact center.

    python3-saml's settings are set one by one: its defaults are too lax for us.

    :param entity_id: ours.
    :param base: the URL under which our own addresses are.
    """

    def __init__(self, keys: OwnKeys, contact_center: str, *, entity_id: str, base: str) -> None:
        self.entity_id = entity_id
        self.acs_url = f"{base}/acs"
        self.slo_url = f"{base}/slo"
        self.contact_center = contact_center
        self._keys = keys

    def path_of(self, settings: IdentityProvider) -> str:
        """Return the dotted path of a provider's table."""
        return f"contact_centers.{self.contact_center}.saml.identity_providers.{settings.name}"

    def check(self, settings: IdentityProvider) -> None:
        """Check the values that python3-saml writes into XML without escaping them.

        :raises ConfigurationError: if the result would not be well-formed.
        """
        for value in (self.entity_id, self.acs_url, settings.name_id_format, *settings.authn_context):
            if any(character in value for character in "&<>\"'") or not value.isprintable():
                raise ConfigurationError(
                    f"{self.path_of(settings)}: {value!r} has characters that cannot stand in an address or entity id"
                )

    def build(self, settings: IdentityProvider, metadata: ProviderMetadata) -> Trust:
        """Build the trust of one provider.

        :raises ConfigurationError: if the provider does not offer the configured binding, or python3-saml refuses the
            settings.
        """
        if settings.binding not in metadata.single_sign_on:
            raise ConfigurationError(
                f"{self.path_of(settings)}.binding: the identity provider offers no SingleSignOnService by "
                f"{settings.binding}, only by {', '.join(metadata.single_sign_on)}"
            )
        try:
            values = self._values(settings, metadata)
            toolkit = OneLogin_Saml2_Settings(values)
            referees = tuple(OneLogin_Saml2_Settings(_reading(values, key)) for key in self._keys.decryption_pem)
        except OneLogin_Saml2_Error as error:
            raise ConfigurationError(
                f"{self.path_of(settings)}: python3-saml refuses these settings: {error}"
            ) from error
        keys = tuple(load_key(certificate) for certificate in metadata.certificates)
        return Trust(settings, metadata, keys, toolkit, referees or (toolkit,))

    def _values(self, settings: IdentityProvider, metadata: ProviderMetadata) -> dict[str, Any]:
        signing = self._keys.signing
        signs = signing is not None
        sp: dict[str, Any] = {
            "entityId": self.entity_id,
            "assertionConsumerService": {"url": self.acs_url, "binding": Constants.BINDING_HTTP_POST},
            "singleLogoutService": {"url": self.slo_url, "binding": Constants.BINDING_HTTP_REDIRECT},
            "NameIDFormat": settings.name_id_format or UNSPECIFIED,
            "x509cert": "" if signing is None else signing.certificate,
            "privateKey": "" if signing is None else signing.key.reveal(),
        }
        if self._keys.next_signing_certificate:
            sp["x509certNew"] = self._keys.next_signing_certificate
        return {
            "strict": True,
            "debug": False,
            "sp": sp,
            "idp": {
                "entityId": metadata.entity_id,
                "singleSignOnService": _service(metadata.single_sign_on, settings.binding),
                "singleLogoutService": _service(metadata.single_logout, *BINDINGS),
                "x509certMulti": {"signing": [base64.b64encode(one).decode() for one in metadata.certificates]},
            },
            "security": {
                "authnRequestsSigned": signs,
                "logoutRequestSigned": signs,
                "logoutResponseSigned": signs,
                "wantAssertionsSigned": True,
                "wantMessagesSigned": settings.want_response_signed,
                "wantAttributeStatement": False,
                "wantNameId": settings.match == "name_id",
                "rejectDeprecatedAlgorithm": not settings.allow_sha1,
                "allowRepeatAttributeName": True,
                "allowSingleLabelDomains": True,
                "requestedAuthnContext": list(settings.authn_context) or False,
                "failOnAuthnContextMismatch": bool(settings.authn_context),
                "signatureAlgorithm": Constants.RSA_SHA256,
                "digestAlgorithm": Constants.SHA256,
            },
        }


def _reading(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the settings for reading with this decryption key: python3-saml decrypts with one key only."""
    signs = dict.fromkeys(("authnRequestsSigned", "logoutRequestSigned", "logoutResponseSigned"), False)
    return {
        **values,
        "sp": {**values["sp"], "x509cert": "", "privateKey": key},
        "security": {**values["security"], **signs},
    }


def _service(endpoints: Mapping[str, Endpoint], *bindings: str) -> dict[str, str]:
    """Return the first endpoint by these bindings as python3-saml's settings, or nothing.

    python3-saml writes the URL into messages without escaping it. The browser is sent to the metadata's own URL.
    """
    for name in bindings:
        if name in endpoints:
            return {
                "url": escape(endpoints[name].location),
                "responseUrl": escape(endpoints[name].response_location),
                "binding": BINDINGS[name],
            }
    return {}


@dataclass(frozen=True, slots=True)
class Failure:
    """What has gone wrong with the metadata since they were last good.

    :param again: unix time before which the provider is not asked again.
    :param count: how often in a row.
    """

    finding: str
    again: float
    count: int


@dataclass(frozen=True, slots=True)
class Change:
    """What fetching anew has changed.

    :param before: the metadata that were known, if any were.
    :param shared: whether other nodes, and the next start, have the new ones too.
    """

    before: ProviderMetadata | None
    after: ProviderMetadata
    shared: bool


class _Known:
    """What one process knows of an identity provider, and how its threads take turns.

    :param loaded: what was read when the application started.
    """

    def __init__(self, loaded: tuple[Trust, Copy] | None) -> None:
        self.held = loaded
        self.failure: Failure | None = None
        self.checked_at = -math.inf if loaded is None else loaded[1].fetched
        self.worker: Thread | None = None
        self.worker_lock = Lock()
        self.fetch_lock = Lock()


class TrustedProvider:
    """One identity provider for as long as the application runs; its metadata may change meanwhile.

    What is newer is looked for in the background, at most one thread at a time, which :meth:`current` starts and
    does not wait for: a process without requests asks nobody. Only what has not been looked at for long is looked at
    first, for a key may have been taken back meanwhile. What cannot be used leaves everything as it was. A process
    that was forked knows what was read when the application started, and looks for everything else itself.

    :param settings: its configuration.
    :param source: where its metadata come from.
    :param describe: makes the trust of metadata.
    :param contact_center: whose provider this is.
    :param clock: unix time.
    :param metadata_wait: seconds for which a thread waits, at most, while another one fetches.
    """

    def __init__(
        self,
        settings: IdentityProvider,
        source: Source,
        describe: Callable[[IdentityProvider, ProviderMetadata], Trust],
        *,
        contact_center: str,
        clock: Callable[[], float],
        metadata_wait: float = METADATA_WAIT,
    ) -> None:
        self.settings = settings
        self.contact_center = contact_center
        self.source = source
        self._describe = describe
        self._clock = clock
        self._metadata_wait = metadata_wait
        self._loaded: tuple[Trust, Copy] | None = None
        self._processes = PerProcess(lambda: _Known(self._loaded))

    def __repr__(self) -> str:
        return f"TrustedProvider({self.settings.name!r})"

    @property
    def failure(self) -> Failure | None:
        """What has gone wrong with its metadata since they were last good."""
        return self._known.failure

    def current(self) -> Trust:
        """Return what is known of the provider now.

        The first call in a process, and one after a time without calls, may wait for the provider, and then no longer
        than it has for its answer; while it does not answer well, nobody waits again.

        :raises MetadataUnavailable: if nothing is known of it yet.
        """
        held = self._known.held or self._load_first()
        if self._is_overdue():
            self._refresh_overdue()
            held = self._known.held or held
        self._refresh_in_background()
        return held[0]

    def held(self) -> Trust | None:
        """Return what is known of the provider without asking anybody, or ``None`` while nothing is."""
        return None if self._known.held is None else self._known.held[0]

    def held_since(self) -> float | None:
        """Return the unix time at which what is known was fetched, or ``None`` while nothing is known."""
        return None if self._known.held is None else self._known.held[1].fetched

    def load(self) -> None:
        """Read the metadata now, when the application starts.

        :raises MetadataRefused: if they cannot be used.
        :raises ConfigurationError: if they do not go with the configuration.
        """
        now = self._clock()
        self._adopt(self.source.fetch(now), now)
        self._loaded = self._known.held

    def refresh(self) -> Change:
        """Fetch the metadata now, whatever their age; what was known stays if that fails.

        :raises MetadataRefused: if they cannot be fetched or used.
        :raises ConfigurationError: if they do not go with the configuration.
        """
        now = self._clock()
        before = self.source.kept(now) if self._known.held is None else self._known.held[1]
        try:
            copy = self.source.fetch(now)
            shared = self._adopt(copy, now)
        except (MetadataRefused, ConfigurationError) as error:
            self._note(error, self._clock())
            raise
        return Change(None if before is None else before.metadata, copy.metadata, shared)

    def wait(self, seconds: float) -> None:
        """Wait for what is under way in the background, if anything is."""
        worker = self._known.worker
        if worker is not None:
            worker.join(seconds)

    @property
    def _known(self) -> _Known:
        return self._processes.get()

    def _load_first(self) -> tuple[Trust, Copy]:
        """Bring the first metadata; of many threads one does, the others wait for it."""
        fetch_lock = self._known.fetch_lock
        if fetch_lock.acquire(timeout=self._metadata_wait):
            try:
                # In a pause nobody is asked, not even the state: requests must not queue up here.
                if self._known.held is None and self._may_fetch(self._clock()):
                    self._update()
            finally:
                fetch_lock.release()
        held, failure = self._known.held, self._known.failure
        if held is not None:
            return held
        finding = "not fetched in time" if failure is None else failure.finding
        wait = 5 if failure is None else max(1, math.ceil(failure.again - self._clock()))
        raise MetadataUnavailable(
            f"the metadata of {self.settings.name!r} from {self.source.where} were never fetched: {finding}",
            retry_after=wait,
        )

    def _is_overdue(self) -> bool:
        """Tell whether nobody has looked for long, or is about to, for want of requests."""
        return (
            self._known.worker is None
            and not 0 <= self._clock() - self._known.checked_at < 2 * self.source.check_interval
        )

    def _refresh_overdue(self) -> None:
        """Look for what is newer before anything is used; of many threads one does, the others wait for it."""
        fetch_lock = self._known.fetch_lock
        if fetch_lock.acquire(timeout=self._metadata_wait):
            try:
                known = self._known
                if known.held is not None and self._is_overdue():
                    now = self._clock()
                    # After a failure the provider has had its turn: it is asked in the background.
                    asks = self.source.is_local or (known.failure is None and self.source.is_old(known.held[1], now))
                    known.checked_at = now if asks else known.checked_at
                    self._update(may_fetch=asks)
            finally:
                fetch_lock.release()

    def _refresh_in_background(self) -> None:
        """Look for what is newer, in the background, if nobody has for a while."""
        now = self._clock()
        if 0 <= now - self._known.checked_at < self.source.check_interval:
            return
        with self._known.worker_lock:
            if self._known.worker is not None or 0 <= now - self._known.checked_at < self.source.check_interval:
                return
            self._known.checked_at = now
            worker = self._known.worker = Thread(
                target=self._run_refresh, name=f"metadata of {self.contact_center}/{self.settings.name}", daemon=True
            )
        try:
            worker.start()
        except RuntimeError:
            # No thread is to be had, or the interpreter is on its way out: what is held goes on.
            self._known.worker = None

    def _run_refresh(self) -> None:
        try:
            self._update()
        finally:
            self._known.worker = None

    def _update(self, *, may_fetch: bool = True) -> None:
        now = self._clock()
        held = None if self._known.held is None else self._known.held[1]
        try:
            copy = self.source.newer(held, now, may_fetch=may_fetch and self._may_fetch(now))
            if copy is not None:
                self._adopt(copy, now)
        except (MetadataRefused, ConfigurationError) as error:
            # The provider may have taken its time: the pause begins now.
            self._fail(error, self._clock())

    def _may_fetch(self, now: float) -> bool:
        """Tell whether the provider may be asked, or has to be left alone for a while after a failure."""
        failure = self._known.failure
        # A pause that is longer than any comes from a clock that was put back.
        return failure is None or not 0 < failure.again - now <= _PAUSES[1]

    def _adopt(self, copy: Copy, now: float) -> bool:
        """Go by this copy from now on; tell whether other nodes have it too."""
        trust = self._describe(self.settings, copy.metadata)
        former = None if self._known.held is None else self._known.held[1]
        self._known.held = (trust, copy)
        fresh = copy.fetched >= now
        if fresh:
            self._known.checked_at = now
        good_again, self._known.failure = self._known.failure is not None, None
        if former is not None and former.metadata != copy.metadata:
            self._tell(Event.SAML_METADATA_REPLACED, "what the provider says of itself has changed")
        elif good_again:
            self._tell(Event.SAML_METADATA_REPLACED, "they are good again")
        return self.source.keep(copy) if fresh else True

    def _fail(self, error: Exception, now: float) -> None:
        """Note a failure; the operator is told once of each."""
        former = self._known.failure
        finding = self._note(error, now)
        if former is None or former.finding != finding:
            served = self._serves(now)
            meanwhile = "The last good ones stay in force" if served else "Nobody can log in there until they can"
            self._tell(
                Event.SAML_METADATA_FAILED,
                finding,
                sentence=f"the metadata of {self.settings.name!r} ({self.contact_center}) from {self.source.where} "
                f"cannot be used: {finding}. {meanwhile}; check them with: flask genesys-auth saml refresh "
                f"{self.contact_center} --provider {self.settings.name}",
            )

    def _tell(self, event: Event, detail: str, *, sentence: str = "") -> None:
        log_event(
            event,
            sentence=sentence,
            step="saml",
            contact_center=self.contact_center,
            provider=self.settings.name,
            detail=detail,
        )

    def _serves(self, now: float) -> bool:
        """Tell whether what is held is still valid."""
        if self._known.held is None:
            return False
        ends = self._known.held[1].metadata.valid_until
        return ends is None or now < ends

    def _note(self, error: Exception, now: float) -> str:
        finding, former = str(error), self._known.failure
        count = 1 if former is None else former.count + 1
        least, most = _PAUSES if self._serves(now) else _FIRST_PAUSES
        self._known.failure = Failure(finding, now + min(least * 2 ** min(count - 1, 16), most), count)
        return finding


def trusts_named(providers: Iterable[TrustedProvider], entity_id: str) -> list[Trust]:
    """Return those that bear this name; whether one has sent the message is for its keys to show.

    Those that are known by this name are asked first, and the others only if there is none: nobody waits for one
    provider's metadata to hear what another has to say.

    :raises MetadataUnavailable: if there is none, but one whose metadata are not there might be it.
    """
    providers = [one for one in providers if one.settings.entity_id in {"", entity_id}]
    known = [one for one in providers if _is(one.held(), entity_id)]
    others = [one for one in providers if one not in known]
    missing = None
    for group in (known, others):
        answers = [_current(one) for one in group]
        found = [answer for answer in answers if isinstance(answer, Trust) and answer.entity_id == entity_id]
        if found:
            return found
        missing = next((answer for answer in answers if isinstance(answer, MetadataUnavailable)), missing)
    if missing is not None:
        raise missing
    return []


def _is(trust: Trust | None, entity_id: str) -> bool:
    return trust is not None and trust.entity_id == entity_id


def _current(provider: TrustedProvider) -> Trust | MetadataUnavailable:
    try:
        return provider.current()
    except MetadataUnavailable as error:
        return error
