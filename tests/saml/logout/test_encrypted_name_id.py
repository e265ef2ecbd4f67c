"""A LogoutRequest with an EncryptedID (saml-core 3.7.1)."""

from __future__ import annotations

import dataclasses

import pytest

from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.logout import LogoutRequest
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import CBC, MGF1_SHA256, OAEP_11, SHA256, Encryption, SigningKey

from .test_messages import ANN, BINDINGS, Build, LogoutService, build

__all__ = ["build"]


@pytest.fixture
def logout_service(build: Build, key: SigningKey, other_key: SigningKey) -> LogoutService:
    service = build()
    keys = dataclasses.replace(service.keys, decryption=(other_key.load(),))
    return LogoutService(dataclasses.replace(service, keys=keys), key, MemoryState("tests"))


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    "changes", [{}, {"transport": OAEP_11, "digest": SHA256, "mask": MGF1_SHA256}, {"beside": True}]
)
def test_encrypted_name_id_is_decrypted(
    logout_service: LogoutService, other_key: SigningKey, binding: str, changes: dict[str, object]
) -> None:
    encryption = Encryption(other_key).but(**changes)
    asked = logout_service.take(logout_service.request.but(before_signing=encryption.name_id), binding)
    assert isinstance(asked, LogoutRequest)
    assert asked.name_id == ANN


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"algorithm": CBC}, Fault.ALGORITHM),
        ({"change_cipher": lambda data: data[:-1] + bytes([data[-1] ^ 1])}, Fault.DECRYPTION),
        ({"change_plain": lambda data: data.replace(b"NameID", b"BaseID")}, Fault.DECRYPTION),
    ],
)
def test_undecryptable_name_id_is_refused(
    logout_service: LogoutService, other_key: SigningKey, binding: str, changes: dict[str, object], fault: Fault
) -> None:
    encryption = Encryption(other_key)
    assert isinstance(
        logout_service.take(logout_service.request.but(before_signing=encryption.name_id), binding), LogoutRequest
    )
    logout_service.refuses(logout_service.request.but(before_signing=encryption.but(**changes).name_id), binding, fault)


@pytest.mark.parametrize("binding", BINDINGS)
def test_foreign_ciphertext_and_unsigned_message_are_refused(
    logout_service: LogoutService, key: SigningKey, other_key: SigningKey, binding: str
) -> None:
    theirs, ours = Encryption(key), Encryption(other_key)
    logout_service.refuses(logout_service.request.but(before_signing=theirs.name_id), binding, Fault.DECRYPTION)
    logout_service.refuses(
        logout_service.request.but(before_signing=ours.name_id), binding, Fault.BAD_SIGNATURE, key=other_key
    )


@pytest.mark.parametrize("binding", BINDINGS)
def test_nothing_is_decrypted_without_our_key(
    logout_service: LogoutService, other_key: SigningKey, binding: str
) -> None:
    without_keys = dataclasses.replace(logout_service.service.keys, decryption=())
    locked = dataclasses.replace(logout_service, service=dataclasses.replace(logout_service.service, keys=without_keys))
    message = logout_service.request.but(before_signing=Encryption(other_key).name_id)
    assert isinstance(logout_service.take(message, binding), LogoutRequest)
    with pytest.raises(SamlError) as refusal:
        locked.take(message.but(message_id="_another"), binding)
    assert refusal.value.reason is Fault.ENCRYPTED
