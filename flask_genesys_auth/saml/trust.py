"""Trusted identity providers: their current metadata and keys, refreshed in the background."""

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
from .sources import FETCH_TIMEOUT, Source

if TYPE_CHECKING:
    from ..config.settings import IdentityProvider
    from .keys import OwnKeys

UNSPECIFIED: str = Constants.NAMEID_UNSPECIFIED

METADATA_WAIT = FETCH_TIMEOUT + 5
"""Seconds for which a thread waits at most while another thread fetches the metadata."""

# Seconds between two attempts, first and longest: without valid metadata, and with them.
_FIRST_PAUSES = (5.0, 60.0)
_PAUSES = (60.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Trust:
    """An identity provider's configuration, metadata and keys at one time. One message uses one object throughout.

    :param settings: its configuration.
    :param keys: public keys that verify its signatures; several during key rollover.
    :param toolkit: python3-saml's settings for messages to it, with our signing key.
    :param referees: the same for messages from it, one for each of our decryption keys.
    """

    settings: IdentityProvider
    metadata: ProviderMetadata
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    toolkit: OneLogin_Saml2_Settings = field(repr=False)
    referees: tuple[OneLogin_Saml2_Settings, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """Name of its table in the configuration."""
        return self.settings.name

    @property
    def entity_id(self) -> str:
        """Entity ID of its metadata."""
        return self.metadata.entity_id

    def check_valid(self, now: float) -> None:
        """Check that the metadata have not expired.

        :param now: unix time.
        :raises SamlError: if they have.
        """
        ends = self.metadata.valid_until
        if ends is not None and now >= ends:
            raise SamlError(
                Fault.METADATA_EXPIRED,
                f"the provider's metadata expired at {as_instant(ends)}; our clock says {as_instant(now)}",
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
                    f"{self.path_of(settings)}: {value!r} has characters that are not allowed in a URL or entity ID"
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
    """The last failure to refresh metadata.

    :param again: unix time of the next attempt.
    :param count: failures in a row.
    """

    finding: str
    again: float
    count: int


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a refresh.

    :param before: the former metadata, if any.
    :param shared: whether the new ones are available to other nodes and to the next start.
    """

    before: ProviderMetadata | None
    after: ProviderMetadata
    shared: bool


class _LocalState:
    """The metadata of one provider in one process, and the locks of its threads.

    :param loaded: from the start of the application.
    """

    def __init__(self, loaded: Trust | None) -> None:
        self.held = loaded
        self.failure: Failure | None = None
        self.checked_at = -math.inf if loaded is None else loaded.metadata.fetched
        self.worker: Thread | None = None
        self.worker_lock = Lock()
        self.fetch_lock = Lock()


class TrustedProvider:
    """An identity provider of a running application. Its metadata change while the application runs.

    :meth:`current` starts a background refresh when one is due and does not wait for it; a process without requests
    does not refresh. If the last check is long ago, :meth:`current` refreshes first: a key may have been revoked
    meanwhile. Metadata that cannot be used change nothing. A forked process starts with the metadata that were read
    at the start of the application.

    :param describe: builds a :class:`Trust` from metadata.
    :param contact_center: name of its contact center.
    :param clock: unix time.
    :param metadata_wait: seconds for which a thread waits at most while another thread fetches.
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
        self._loaded: Trust | None = None
        self._processes = PerProcess(lambda: _LocalState(self._loaded))

    def __repr__(self) -> str:
        return f"TrustedProvider({self.settings.name!r})"

    @property
    def failure(self) -> Failure | None:
        """The last failure, or ``None`` if the last refresh succeeded."""
        return self._local.failure

    def current(self) -> Trust:
        """Return the current trust.

        The first call in a process, or one after a long time without calls, may wait for the provider up to its
        timeout. After a failure, calls do not wait until the next attempt is due.

        :raises MetadataUnavailable: if the metadata were never fetched.
        """
        held = self._local.held or self._load_first()
        if self._is_overdue():
            self._in_one_thread(self._refresh_overdue)
            held = self._local.held or held
        self._refresh_in_background()
        return held

    def held(self) -> Trust | None:
        """Return the trust without any fetch, or ``None`` if the metadata were never fetched."""
        return self._local.held

    def held_since(self) -> float | None:
        """Return the unix time at which the metadata were fetched, or ``None``."""
        return None if self._local.held is None else self._local.held.metadata.fetched

    def load(self) -> None:
        """Read the metadata at the start of the application.

        :raises MetadataRefused: if they cannot be used.
        :raises ConfigurationError: if they do not match the configuration.
        """
        now = self._clock()
        self._adopt(self.source.fetch(now), now)
        self._loaded = self._local.held

    def refresh(self) -> Change:
        """Fetch the metadata now, whatever their age. On failure the former ones stay.

        :raises MetadataRefused: if they cannot be fetched or used.
        :raises ConfigurationError: if they do not match the configuration.
        """
        now = self._clock()
        before = self.source.kept(now) if self._local.held is None else self._local.held.metadata
        try:
            after = self.source.fetch(now)
            shared = self._adopt(after, now)
        except (MetadataRefused, ConfigurationError) as error:
            self._record(error, self._clock())
            raise
        return Change(before, after, shared)

    def wait(self, seconds: float) -> None:
        """Wait for a background refresh, if one is running."""
        worker = self._local.worker
        if worker is not None:
            worker.join(seconds)

    @property
    def _local(self) -> _LocalState:
        return self._processes.get()

    def _in_one_thread(self, fetch: Callable[[], None]) -> None:
        """Call ``fetch`` in one thread at a time; the others wait for it, up to ``metadata_wait`` seconds."""
        lock = self._local.fetch_lock
        if lock.acquire(timeout=self._metadata_wait):
            try:
                fetch()
            finally:
                lock.release()

    def _load_first(self) -> Trust:
        """Return the first metadata.

        :raises MetadataUnavailable: if they cannot be fetched.
        """
        self._in_one_thread(self._fetch_first)
        held, failure = self._local.held, self._local.failure
        if held is not None:
            return held
        finding = "the fetch timed out" if failure is None else failure.finding
        wait = 5 if failure is None else max(1, math.ceil(failure.again - self._clock()))
        raise MetadataUnavailable(
            f"the metadata of {self.settings.name!r} from {self.source.where} were never fetched: {finding}",
            retry_after=wait,
        )

    def _fetch_first(self) -> None:
        # Between attempts not even the state is read: requests must not queue here.
        if self._local.held is None and self._may_fetch(self._clock()):
            self._update()

    def _is_overdue(self) -> bool:
        """Return whether the last check is long ago and none is running, because there were no requests."""
        return (
            self._local.worker is None
            and not 0 <= self._clock() - self._local.checked_at < 2 * self.source.check_interval
        )

    def _refresh_overdue(self) -> None:
        """Refresh before the metadata are used, unless another thread just did."""
        local = self._local
        if local.held is not None and self._is_overdue():
            now = self._clock()
            # After a failure the provider is contacted in the background only.
            asks = self.source.is_local or (local.failure is None and self.source.is_old(local.held.metadata, now))
            local.checked_at = now if asks else local.checked_at
            self._update(may_fetch=asks)

    def _refresh_in_background(self) -> None:
        """Start a background refresh if one is due."""
        now = self._clock()
        if 0 <= now - self._local.checked_at < self.source.check_interval:
            return
        with self._local.worker_lock:
            if self._local.worker is not None or 0 <= now - self._local.checked_at < self.source.check_interval:
                return
            self._local.checked_at = now
            worker = self._local.worker = Thread(
                target=self._run_refresh, name=f"metadata of {self.contact_center}/{self.settings.name}", daemon=True
            )
        try:
            worker.start()
        except RuntimeError:
            # Out of threads, or the interpreter shuts down: continue with the current metadata.
            self._local.worker = None

    def _run_refresh(self) -> None:
        try:
            self._update()
        finally:
            self._local.worker = None

    def _update(self, *, may_fetch: bool = True) -> None:
        now = self._clock()
        held = None if self._local.held is None else self._local.held.metadata
        try:
            newer = self.source.newer(held, now, may_fetch=may_fetch and self._may_fetch(now))
            if newer is not None:
                self._adopt(newer, now)
        except (MetadataRefused, ConfigurationError) as error:
            # The pause starts now, after the provider's timeout.
            self._report_failure(error, self._clock())

    def _may_fetch(self, now: float) -> bool:
        """Return whether the pause after a failure is over."""
        failure = self._local.failure
        # A pause above the longest one means that the clock was set back.
        return failure is None or not 0 < failure.again - now <= _PAUSES[1]

    def _adopt(self, metadata: ProviderMetadata, now: float) -> bool:
        """Use these metadata from now on; return whether they are available to other nodes."""
        trust, former = self._describe(self.settings, metadata), self._local.held
        self._local.held = trust
        fresh = metadata.fetched >= now
        if fresh:
            self._local.checked_at = now
        good_again, self._local.failure = self._local.failure is not None, None
        if former is not None and former.metadata != metadata:
            self._log(Event.SAML_METADATA_REPLACED, "the provider's metadata have changed")
        elif good_again:
            self._log(Event.SAML_METADATA_REPLACED, "the metadata can be used again")
        return self.source.keep(metadata) if fresh else True

    def _report_failure(self, error: Exception, now: float) -> None:
        """Record a failure, and log each finding once."""
        former = self._local.failure
        finding = self._record(error, now)
        if former is None or former.finding != finding:
            served = self._is_valid(now)
            meanwhile = "The last good ones remain in use" if served else "Logins with this provider fail until then"
            self._log(
                Event.SAML_METADATA_FAILED,
                finding,
                sentence=f"the metadata of {self.settings.name!r} ({self.contact_center}) from {self.source.where} "
                f"cannot be used: {finding}. {meanwhile}; check them with: flask genesys-auth saml refresh "
                f"{self.contact_center} --provider {self.settings.name}",
            )

    def _log(self, event: Event, detail: str, *, sentence: str = "") -> None:
        log_event(
            event,
            sentence=sentence,
            step="saml",
            contact_center=self.contact_center,
            provider=self.settings.name,
            detail=detail,
        )

    def _is_valid(self, now: float) -> bool:
        """Return whether the current metadata are valid."""
        if self._local.held is None:
            return False
        ends = self._local.held.metadata.valid_until
        return ends is None or now < ends

    def _record(self, error: Exception, now: float) -> str:
        finding, former = str(error), self._local.failure
        count = 1 if former is None else former.count + 1
        least, most = _PAUSES if self._is_valid(now) else _FIRST_PAUSES
        self._local.failure = Failure(finding, now + min(least * 2 ** min(count - 1, 16), most), count)
        return finding


def trusts_named(providers: Iterable[TrustedProvider], entity_id: str) -> list[Trust]:
    """Return the providers with this entity ID. The caller checks the signature with their keys.

    Providers whose metadata are known are checked first, so that a message of one provider does not wait for the
    metadata of another.

    :raises MetadataUnavailable: if none is found, but the metadata of one that may match were never fetched.
    """
    providers = [one for one in providers if one.settings.entity_id in {"", entity_id}]
    known = [one for one in providers if (held := one.held()) is not None and held.entity_id == entity_id]
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


def _current(provider: TrustedProvider) -> Trust | MetadataUnavailable:
    try:
        return provider.current()
    except MetadataUnavailable as error:
        return error
