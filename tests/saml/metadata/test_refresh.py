"""Metadata from a URL: first use, refresh, key rollover, copies in the state, failures."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from flask_genesys_auth.chain.protocols import Json
from flask_genesys_auth.config.settings import IdentityProvider
from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.saml.errors import MetadataUnavailable, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.keys import der_of
from flask_genesys_auth.saml.metadata import LIMITS, MetadataRefused, ProviderMetadata
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.saml.sources import LIFETIME, AddressSource
from flask_genesys_auth.saml.trust import Trust, TrustedProvider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing.saml_messages import Message, SigningKey
from flask_genesys_auth.testing.server import unused_url
from tests.certificates import make_certificate
from tests.forking import FORKS, holds_in_child

from ..addresses import IDP
from ..provider_site import (
    BEGIN,
    HOUR,
    Clock,
    Site,
    keys_after_looking,
    metadata_of,
    okta,
    service_at,
    settle,
    signed,
)

WARNINGS = "flask_genesys_auth"


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    site = Site("")
    with site.serve():
        yield site


@pytest.fixture
def site(shared_site: Site, key: SigningKey) -> Iterator[Site]:
    shared_site.document = metadata_of(key)
    shared_site.requests.clear()
    yield shared_site
    shared_site.repair()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class NotedState(MemoryState):
    """A state that notes under which key something was put last."""

    last = ""

    def put(self, key: str, value: Json, ttl: float, *, index: object = ()) -> None:
        self.last = key
        super().put(key, value, ttl)


@pytest.fixture
def state() -> NotedState:
    return NotedState("tests")


def der(*keys: SigningKey) -> set[bytes]:
    return {der_of(key.certificate_pem) for key in keys}


def wait_for_requests(site: Site, count: int) -> None:
    while site.asked < count:
        time.sleep(0.01)


class BrokenState(MemoryState):
    """A state whose server is down when told so."""

    down = False
    asked = 0

    def get(self, key: str) -> Json:
        self._look()
        return super().get(key)

    def put(self, key: str, value: Json, ttl: float, *, index: object = ()) -> None:
        self._look()
        super().put(key, value, ttl)

    def _look(self) -> None:
        self.asked += 1
        if self.down:
            raise StateUnavailable("the server is down, on purpose")


def test_metadata_are_fetched_once_at_first_use(site: Site, clock: Clock, state: MemoryState) -> None:
    with service_at(site.address, clock, state) as service:
        assert site.asked == 0
        assert okta(service).held_since() is None
        assert okta(service).current().entity_id == IDP
        assert okta(service).current() is okta(service).current()
        settle(okta(service))
        assert site.asked == 1
        assert site.requests[0].headers["Accept"].startswith("application/samlmetadata+xml")
        assert okta(service).held_since() == clock.now


def test_own_metadata_need_no_provider(clock: Clock) -> None:
    with service_at(unused_url(), clock) as service:
        assert service.entity_id.encode() in service.metadata_xml()


def outcome(service: ServiceProvider) -> str:
    return current(okta(service))


def current(provider: TrustedProvider) -> str:
    try:
        return provider.current().entity_id
    except MetadataUnavailable as error:
        return error.finding


def test_parallel_first_use_fetches_once(site: Site, clock: Clock) -> None:
    with service_at(site.address, clock) as service, ThreadPoolExecutor(8) as threads:
        site.fail(hang=True)
        outcomes = [threads.submit(outcome, service) for _ in range(8)]
        wait_for_requests(site, 1)
        # The first is let go with an error of the server; that counts for all who wait.
        site.repair()
        assert all("HTTP 503" in found.result() for found in outcomes)
        assert site.asked == 1
        clock.pass_(5)
        assert {found.result() for found in [threads.submit(outcome, service) for _ in range(8)]} == {IDP}
        assert site.asked == 2


def test_wait_for_another_threads_fetch_is_bounded(site: Site, clock: Clock) -> None:
    with service_at(site.address, clock) as service, ThreadPoolExecutor(1) as threads:
        first = okta(service)
        impatient = TrustedProvider(
            first.settings, first.source, no_trust, contact_center="acme", clock=clock, metadata_wait=0.01
        )
        site.fail(hang=True)
        asking = threads.submit(current, impatient)
        wait_for_requests(site, 1)
        assert "the fetch timed out" in current(impatient)
        site.repair()
        assert "HTTP 503" in asking.result()


def no_trust(settings: IdentityProvider, metadata: ProviderMetadata) -> Trust:
    raise AssertionError("there are no metadata")


def test_key_rollover_needs_no_restart(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(key)
        site.document = metadata_of(key, other_key)
        clock.pass_(HOUR - 1)
        assert keys_after_looking(okta(service)) == der(key)
        clock.pass_(60)
        assert keys_after_looking(okta(service)) == der(key, other_key)
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert site.asked == 3


def test_message_with_removed_key_is_refused(site: Site, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(site.address, clock) as service:

        def found(signer: SigningKey) -> str:
            message = Message(IDP, service.acs_url, service.entity_id, "_request", now=clock.now)
            try:
                verify(admit(message.encoded(signer)), okta(service).current())
            except SamlError as error:
                return str(error.reason)
            return "accepted"

        assert (found(key), found(other_key)) == ("accepted", "bad_signature")
        site.document = metadata_of(key, other_key)
        clock.pass_(HOUR)
        keys_after_looking(okta(service))
        assert (found(key), found(other_key)) == ("accepted", "accepted")
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        keys_after_looking(okta(service))
        assert (found(key), found(other_key)) == ("bad_signature", "accepted")


def test_clock_set_back_does_not_stop_refreshes(
    site: Site, clock: Clock, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.fail(503)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(key)
        site.repair()
        site.document = metadata_of(other_key)
        clock.pass_(-24 * HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)


def test_trust_object_does_not_change(site: Site, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(site.address, clock) as service:
        taken = okta(service).current()
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert set(taken.metadata.certificates) == der(key)


def test_refresh_never_delays_a_request(site: Site, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = metadata_of(other_key)
        site.fail(hang=True)
        clock.pass_(HOUR)
        for _ in range(50):
            assert set(okta(service).current().metadata.certificates) == der(key)
        assert threading.active_count() < 20
        site.repair()
        settle(okta(service))
        assert site.asked == 2


def test_failed_refresh_keeps_old_metadata_and_backs_off(
    site: Site, clock: Clock, caplog: pytest.LogCaptureFixture, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.fail(503)
        for _ in range(5):
            clock.pass_(HOUR)
            assert keys_after_looking(okta(service)) == der(key)
        assert site.asked == 6
        for _ in range(5):
            clock.pass_(60)
            assert keys_after_looking(okta(service)) == der(key)
        assert site.asked == 6  # after the fifth failure in a row it pauses for 16 minutes
        (warning,) = [record for record in caplog.records if record.name == WARNINGS]
        assert warning.levelno == logging.WARNING
        assert "HTTP 503" in warning.getMessage()
        assert "flask genesys-auth saml refresh acme --provider okta" in warning.getMessage()
        told = warning.__dict__["genesys_auth"]
        assert (told["event"], told["contact_center"], told["provider"]) == ("saml_metadata_failed", "acme", "okta")
        assert okta(service).failure is not None
        site.repair()
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert okta(service).failure is None


def test_pauses_grow_from_a_minute_to_an_hour(site: Site, clock: Clock) -> None:
    with service_at(site.address, clock, metadata_refresh=60) as service:
        okta(service).current()
        site.fail(500)
        pauses = []
        for _ in range(9):
            clock.pass_(HOUR)
            keys_after_looking(okta(service))
            failure = okta(service).failure
            assert failure is not None
            pauses.append(failure.again - clock.now)
        assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"<html>", "not XML"),
        (b"<x/>", "not SAML metadata"),
        (b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><x>&a;</x>", "document type"),
        (metadata_of().encode(), "no signing certificate"),
        (b"<x/>" + b" " * LIMITS.size, "larger than"),
        (b"<x>" * 40 + b"</x>" * 40, "nested deeper"),
    ],
)
def test_unusable_document_is_refused(site: Site, clock: Clock, key: SigningKey, document: bytes, said: str) -> None:
    genuine, site.document = site.document, document
    with service_at(site.address, clock) as service:
        with pytest.raises(MetadataUnavailable, match=f"were never fetched: .*{said}"):
            okta(service).current()
        clock.pass_(60)
        site.document = genuine
        assert keys_after_looking(okta(service)) == der(key)
        site.document = document
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(key)
        failure = okta(service).failure
        assert failure is not None
        assert said in failure.finding


def test_script_endpoint_is_refused(site: Site, clock: Clock, key: SigningKey) -> None:
    with service_at(site.address, clock) as service:
        assert okta(service).current().entity_id == IDP
    site.document = metadata_of(key).replace("https://idp.example/sso", "javascript:alert(1)//")
    with service_at(site.address, clock) as service, pytest.raises(MetadataUnavailable, match=r"is not an http\(s\)"):
        okta(service).current()


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [(302, {"Location": "/"}, "redirect"), (404, {}, "HTTP 404"), (204, {}, "HTTP 204"), (500, {}, "HTTP 500")],
)
def test_other_http_answer_is_refused(
    site: Site, clock: Clock, status: int, headers: dict[str, str], said: str
) -> None:
    with service_at(site.address, clock) as service:
        site.fail(status, headers=headers)
        with pytest.raises(MetadataUnavailable, match=said):
            okta(service).current()
        assert site.asked == 1
        clock.pass_(60)
        site.repair()
        assert okta(service).current().entity_id == IDP


def test_slow_answer_ends_by_the_deadline(site: Site, clock: Clock) -> None:
    # Long enough for any machine to connect; the whole document would take minutes.
    source = AddressSource(IdentityProvider("okta", site.address), "acme", None, timeout=3.0)
    site.fail(200, body=metadata_of(), drip=0.5)
    with pytest.raises(MetadataRefused, match="no complete answer before the timeout"):
        source.fetch(clock.now)


def test_unreachable_provider_is_not_asked_each_time(clock: Clock, site: Site) -> None:
    site.fail(503)
    with service_at(site.address, clock) as service:
        for _ in range(5):
            with pytest.raises(MetadataUnavailable, match=r"'okta' from http://.* were never fetched: .*503") as error:
                okta(service).current()
            assert error.value.retry_after == 5
        assert site.asked == 1
        clock.pass_(5)
        with pytest.raises(MetadataUnavailable) as error:
            okta(service).current()
        assert (site.asked, error.value.retry_after) == (2, 10)


def test_requests_do_not_queue_for_unavailable_state(clock: Clock, site: Site) -> None:
    site.fail(503)
    state = BrokenState("tests")
    state.down = True
    with service_at(site.address, clock, state) as service:
        for _ in range(5):
            assert "HTTP 503" in outcome(service)
        assert (site.asked, state.asked) == (1, 1)
        site.repair()
        clock.pass_(5)
        assert outcome(service) == IDP


def test_restart_uses_the_stored_copy(
    site: Site, clock: Clock, tmp_path: Path, key: SigningKey, other_key: SigningKey
) -> None:
    address = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    before = SqlState(address, "tests", 5.0)
    with service_at(site.address, clock, before) as service:
        okta(service).current()
    before.close()
    site.fail(503)
    clock.pass_(5 * HOUR)
    after = SqlState(address, "tests", 5.0)
    with service_at(site.address, clock, after) as service:
        assert set(okta(service).current().metadata.certificates) == der(key)
        assert site.asked == 2  # it is old, so the provider was asked first, in vain
        assert keys_after_looking(okta(service)) == der(key)
        assert site.asked == 2
        site.repair()
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)
    after.close()
    with service_at(site.address, clock) as service:
        site.fail(503)
        with pytest.raises(MetadataUnavailable):
            okta(service).current()


def test_newer_copy_of_another_node_is_used(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock, state) as here, service_at(site.address, clock, state) as there:
        assert set(okta(here).current().metadata.certificates) == der(key)
        assert set(okta(there).current().metadata.certificates) == der(key)
        assert site.asked == 1
        site.document = metadata_of(other_key)
        clock.pass_(10)
        change = okta(there).refresh()
        assert change.before is not None
        assert (set(change.before.certificates), set(change.after.certificates)) == (der(key), der(other_key))
        assert change.shared
        assert keys_after_looking(okta(here)) == der(key)
        clock.pass_(50)
        assert keys_after_looking(okta(here)) == der(other_key)
        assert site.asked == 2


def test_idle_node_refreshes_before_using_a_key(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock, state) as idle, service_at(site.address, clock, state) as busy:
        assert set(okta(idle).current().metadata.certificates) == der(key)
        site.document = metadata_of(other_key)
        okta(busy).refresh()
        clock.pass_(60)
        # It was in use a minute ago: the look is in the background, as ever.
        assert set(okta(idle).current().metadata.certificates) == der(key)
        settle(okta(idle))
        site.document = metadata_of(key, other_key)
        okta(busy).refresh()
        clock.pass_(120)
        assert set(okta(idle).current().metadata.certificates) == der(key, other_key)
        assert site.asked == 3


def test_old_metadata_are_refreshed_before_use(
    site: Site, clock: Clock, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = metadata_of(other_key)
        clock.pass_(2 * HOUR - 1)
        # Not so long: it is asked in the background.
        assert set(okta(service).current().metadata.certificates) == der(key)
        settle(okta(service))
        assert set(okta(service).current().metadata.certificates) == der(other_key)
        site.document = metadata_of(key, other_key)
        clock.pass_(2 * HOUR)
        assert set(okta(service).current().metadata.certificates) == der(key, other_key)
        assert site.asked == 3


def test_requests_wait_once_for_hung_provider(site: Site, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.fail(503)
        clock.pass_(2 * HOUR)
        assert set(okta(service).current().metadata.certificates) == der(key)
        assert site.asked == 2
        site.repair()
        site.document = metadata_of(other_key)
        clock.pass_(2 * HOUR)
        # In the background, then.
        assert set(okta(service).current().metadata.certificates) == der(key)
        settle(okta(service))
        assert set(okta(service).current().metadata.certificates) == der(other_key)


def test_pause_starts_after_the_failure(site: Site, clock: Clock) -> None:
    class Slow(Clock):
        """Each look at it takes four seconds."""

        def __call__(self) -> float:
            self.now += 4
            return self.now

    slow = Slow()
    with service_at(site.address, slow) as service:
        site.fail(503)
        with pytest.raises(MetadataUnavailable):
            okta(service).current()
        failure = okta(service).failure
        assert failure is not None
        began = failure.again - 5
        assert BEGIN + 8 < began <= slow.now


def test_newer_answer_wins_despite_clock_differences(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    ahead = Clock(clock.now + 200)
    with service_at(site.address, clock, state) as here, service_at(site.address, ahead, state) as there:
        okta(there).current()
        assert set(okta(here).current().metadata.certificates) == der(key)
        site.document = metadata_of(other_key)
        assert okta(here).refresh().shared
        ahead.pass_(60)
        assert keys_after_looking(okta(there)) == der(other_key)
        assert site.asked == 2


def test_late_answer_does_not_replace_newer_one(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    with service_at(site.address, clock, state) as slow, service_at(site.address, clock, state) as fast:
        okta(slow).current()
        okta(fast).current()
        began = clock.now + 10
        late = okta(slow).source.fetch(began)
        clock.pass_(15)
        site.document = metadata_of(other_key)
        okta(fast).refresh()
        assert okta(slow).source.keep(late)
        clock.pass_(60)
        assert keys_after_looking(okta(slow)) == der(other_key)
        assert keys_after_looking(okta(fast)) == der(other_key)


@pytest.mark.parametrize("value", [[], {"certificates": []}, {"single_sign_on": {"redirect": []}}, 7, "text", None])
def test_unreadable_copy_counts_as_none(
    site: Site, clock: Clock, state: NotedState, key: SigningKey, value: Json
) -> None:
    with service_at(site.address, clock, state) as service:
        okta(service).current()
        name = state.last
        good = state.get(name)
        assert isinstance(good, dict)
        state.put(name, {**good, **value} if isinstance(value, dict) else value, LIFETIME)
    with service_at(site.address, clock, state) as again:
        assert set(okta(again).current().metadata.certificates) == der(key)
        assert site.asked == 2


def test_copy_belongs_to_its_configuration(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    site.document = signed(metadata_of(key), other_key)
    pinned: dict[str, Any] = {"metadata_certificate": other_key.certificate_pem}
    entity: dict[str, Any] = {"entity_id": IDP}
    with service_at(site.address, clock, state) as service:
        okta(service).current()
    with service_at(site.address, clock, state) as service:
        okta(service).current()
        assert site.asked == 1
    for count, changed in enumerate([entity, pinned, {**pinned, **entity}], start=2):
        with service_at(site.address, clock, state, **changed) as service:
            okta(service).current()
            assert site.asked == count
    with service_at(f"{site.address}/", clock, state) as service:
        okta(service).current()
        assert site.asked == 5


def test_pinned_signer_applies_to_urls(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    pinned: dict[str, Any] = {"metadata_certificate": other_key.certificate_pem}
    site.document = signed(metadata_of(key), other_key)
    with service_at(site.address, clock, state, **pinned) as service:
        assert keys_after_looking(okta(service)) == der(key)
        for forged in (metadata_of(other_key), signed(metadata_of(other_key), key)):
            site.document = forged
            clock.pass_(2 * HOUR)
            assert keys_after_looking(okta(service)) == der(key)
            with pytest.raises(MetadataRefused, match=r"signed|signature"):
                okta(service).refresh()
    with service_at(site.address, clock, MemoryState("empty"), **pinned) as service:
        assert "metadata_certificate" in outcome(service)


def test_plain_http_metadata_need_valid_until(site: Site, clock: Clock, key: SigningKey, other_key: SigningKey) -> None:
    pinned: dict[str, Any] = {"metadata_certificate": other_key.certificate_pem}
    # Another name of this machine that is none of those that count as loopback.
    in_the_open = site.address.replace("127.0.0.1", "0.0.0.0")
    for_good, ending = (metadata_of(key, valid_until=end) for end in (None, BEGIN + HOUR))
    for address, document, accepted in (
        (site.address, for_good, True),
        (in_the_open, ending, True),
        (in_the_open, for_good, False),
    ):
        site.document = signed(document, other_key)
        with service_at(address, clock, MemoryState("anew"), **pinned) as service:
            if accepted:
                assert keys_after_looking(okta(service)) == der(key)
            else:
                assert "by plain http need a validUntil" in outcome(service)


def test_unavailable_state_keeps_metadata_in_memory(
    site: Site, clock: Clock, caplog: pytest.LogCaptureFixture, key: SigningKey, other_key: SigningKey
) -> None:
    state = BrokenState("tests")
    state.down = True
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(key)
        assert "are not stored" in caplog.text
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        assert keys_after_looking(okta(service)) == der(other_key)
        assert not okta(service).refresh().shared
        state.down = False
        clock.pass_(60)
        keys_after_looking(okta(service))
    site.fail(503)
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(other_key)


def test_expired_metadata_are_refused_and_refreshed(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    site.document = metadata_of(key, valid_until=clock.now + 600)
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(key)
        clock.pass_(601)
        assert keys_after_looking(okta(service)) == der(key)  # binding refuses its messages meanwhile
        failure = okta(service).failure
        assert failure is not None
        assert "have expired" in failure.finding
    with service_at(site.address, clock, state) as service, pytest.raises(MetadataUnavailable, match="have expired"):
        okta(service).current()
    site.document = metadata_of(other_key, valid_until=clock.now + 600)
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(other_key)


def test_short_lived_metadata_are_refreshed_early(site: Site, clock: Clock, key: SigningKey) -> None:
    site.document = metadata_of(key, valid_until=clock.now + 600)
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = metadata_of(key, valid_until=clock.now + 6000)
        clock.pass_(299)
        assert keys_after_looking(okta(service)) == der(key)
        assert site.asked == 1
        clock.pass_(60)
        assert keys_after_looking(okta(service)) == der(key)
        assert okta(service).current().metadata.valid_until == clock.now + 6000 - 359


def test_expired_metadata_are_retried_like_missing_ones(site: Site, clock: Clock, key: SigningKey) -> None:
    site.document = metadata_of(key, valid_until=clock.now + 600)
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.fail(503)
        pauses = []
        for _ in range(6):
            clock.pass_(600)
            keys_after_looking(okta(service))
            failure = okta(service).failure
            assert failure is not None
            pauses.append(failure.again - clock.now)
        assert pauses == [5, 10, 20, 40, 60, 60]


def test_copy_from_the_future_is_ignored(
    site: Site, clock: Clock, state: MemoryState, key: SigningKey, other_key: SigningKey
) -> None:
    site.document = metadata_of(other_key)
    with service_at(site.address, Clock(clock.now + 24 * HOUR), state) as ahead:
        okta(ahead).current()
    site.document = metadata_of(key)
    with service_at(site.address, clock, state) as service:
        assert keys_after_looking(okta(service)) == der(key)
    with service_at(site.address, Clock(clock.now - 60), state) as slightly_behind:
        assert set(okta(slightly_behind).current().metadata.certificates) == der(key)
        assert site.asked == 2


@pytest.mark.parametrize(
    "damage",
    [
        {"certificates": []},
        {"certificates": ["!"]},
        {"certificates": ["MAA="]},
        {"single_sign_on": {}},
        {"single_sign_on": {"redirect": ["javascript:alert(1)", "https://idp.example"]}},
        {"single_logout": None},
        {"single_logout": {"post": "x"}},
        {"entity_id": ""},
        {"entity_id": None},
        {"fetched": True},
        {"fetched": "1"},
        {"fetched": 1e300},
        {"valid_until": "soon"},
    ],
)
def test_damaged_copy_is_ignored(
    site: Site, clock: Clock, state: NotedState, key: SigningKey, other_key: SigningKey, damage: dict[str, Json]
) -> None:
    with service_at(site.address, clock, state) as service:
        okta(service).current()
    name = state.last
    value = state.get(name)
    assert isinstance(value, dict)
    site.document = metadata_of(other_key)
    with service_at(site.address, clock, state) as service:
        assert set(okta(service).current().metadata.certificates) == der(key)
    without = {part: value[part] for part in value if part not in damage}
    damaged: list[Json] = [{**value, **damage}, without, [], "text"]
    for broken in damaged:
        state.put(name, broken, LIFETIME)
        with service_at(site.address, clock, state) as service:
            assert set(okta(service).current().metadata.certificates) == der(other_key)


def test_removed_binding_keeps_the_old_metadata(site: Site, clock: Clock, key: SigningKey) -> None:
    genuine = metadata_of(key)
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = genuine.replace("bindings:HTTP-Redirect", "bindings:SOAP")
        clock.pass_(HOUR)
        assert "redirect" in okta(service).current().metadata.single_sign_on
        settle(okta(service))
        failure = okta(service).failure
        assert failure is not None
        assert "offers no SingleSignOnService by redirect" in failure.finding
        with pytest.raises(ConfigurationError, match="offers no SingleSignOnService"):
            okta(service).refresh()
        assert "redirect" in okta(service).current().metadata.single_sign_on


# From Python 3.12 on a fork warns where threads live: those that live here wait, and hold nothing.
forked = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forked
@pytest.mark.parametrize("fork", sorted(FORKS))
def test_child_refreshes_independently_of_the_parent(
    site: Site, clock: Clock, key: SigningKey, other_key: SigningKey, fork: str
) -> None:
    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = metadata_of(other_key)
        site.fail(hang=True, times=1)
        clock.pass_(HOUR)
        okta(service).current()  # begins a refresh that hangs in the parent
        wait_for_requests(site, 2)
        assert holds_in_child(lambda: keys_after_looking(okta(service)) == der(other_key), fork=fork)
        assert site.asked == 3
        site.repair()
        settle(okta(service))
        assert set(okta(service).current().metadata.certificates) == der(key)


@forked
@pytest.mark.parametrize("fork", sorted(FORKS))
def test_child_does_not_wait_for_parents_fetch(site: Site, clock: Clock, key: SigningKey, fork: str) -> None:
    with service_at(site.address, clock) as service, ThreadPoolExecutor(1) as threads:
        site.fail(hang=True, times=1)
        first = threads.submit(outcome, service)
        wait_for_requests(site, 1)
        assert holds_in_child(lambda: keys_after_looking(okta(service)) == der(key), fork=fork)
        site.repair()
        assert "HTTP 503" in first.result()


@pytest.mark.parametrize("fork", sorted(FORKS))
def test_child_uses_the_copy_in_the_state(site: Site, clock: Clock, tmp_path: Path, key: SigningKey, fork: str) -> None:
    state = SqlState(f"sqlite:///{tmp_path / 'state.sqlite3'}", "tests", 5.0)
    with service_at(site.address, clock, state) as service:
        okta(service).current()
        site.fail(503)
        assert holds_in_child(lambda: keys_after_looking(okta(service)) == der(key), fork=fork)
        assert site.asked == 1
    state.close()


def test_metadata_stay_when_no_thread_can_start(
    site: Site, clock: Clock, key: SigningKey, other_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with service_at(site.address, clock) as service:
        okta(service).current()
        site.document = metadata_of(other_key)
        clock.pass_(HOUR)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            assert keys_after_looking(okta(service)) == der(key)
        clock.pass_(60)
        assert keys_after_looking(okta(service)) == der(other_key)


def test_https_is_verified(
    site: Site, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: SigningKey
) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = make_server("127.0.0.1", 0, site, threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"https://127.0.0.1:{server.server_port}/metadata"
    try:
        with service_at(address, clock) as service:
            with pytest.raises(MetadataUnavailable, match="its certificate is refused"):
                okta(service).current()
            clock.pass_(60)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert keys_after_looking(okta(service)) == der(key)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
