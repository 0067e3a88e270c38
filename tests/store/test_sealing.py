"""Sealed secrets open under their own master key and for their own key only."""

from __future__ import annotations

import base64

import pytest

from app.errors import ConfigError
from app.store.sealing import Sealer
from tests.store.tools import MASTER, SEALER

KEY = "A" * 20


def test_what_was_sealed_can_be_opened() -> None:
    sealed = SEALER.seal(KEY, "sécret")
    assert "sécret".encode() not in sealed
    assert Sealer(MASTER).open(KEY, sealed) == "sécret"


def test_no_two_seals_are_alike() -> None:
    seals = [SEALER.seal(KEY, "secret") for _ in range(100)]
    assert len({sealed[:12] for sealed in seals}) == 100


def test_another_master_key_opens_nothing() -> None:
    other = Sealer(base64.b64encode(bytes(32)).decode())
    with pytest.raises(ConfigError, match="master key is not the one"):
        other.open(KEY, SEALER.seal(KEY, "secret"))


def test_a_secret_can_not_be_moved_to_another_key() -> None:
    with pytest.raises(ConfigError):
        SEALER.open("B" * 20, SEALER.seal(KEY, "secret"))


@pytest.mark.parametrize("at", [0, 11, 12, 20, -1])
def test_a_changed_seal_does_not_open(at: int) -> None:
    sealed = bytearray(SEALER.seal(KEY, "secret"))
    sealed[at] ^= 1
    with pytest.raises(ConfigError):
        SEALER.open(KEY, bytes(sealed))


@pytest.mark.parametrize("length", [0, 5, 12, 27])
def test_a_torn_seal_is_told_in_words(length: int) -> None:
    with pytest.raises(ConfigError, match="can't be decrypted"):
        SEALER.open(KEY, SEALER.seal(KEY, "secret")[:length])
