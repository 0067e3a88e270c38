"""Secrets of access keys are stored encrypted: AES-256-GCM (NIST SP 800-38D) under the master key.

A sealed secret is a random nonce of 12 bytes, the ciphertext, and a tag of 16 bytes. It is bound to the id of its
key as associated data: in the document of another key it can't be opened.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import ConfigError

_NONCE_SIZE = 12


class Sealer:
    def __init__(self, master_key: str) -> None:
        """`master_key` is 32 bytes as base64."""
        self._cipher = AESGCM(base64.b64decode(master_key, validate=True))

    def seal(self, key_id: str, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), key_id.encode())

    def open(self, key_id: str, sealed: bytes) -> str:
        """Raises ConfigError where it was sealed under another master key, or for another id, or was changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], key_id.encode()).decode()
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"The secret of the key {key_id} can't be decrypted: the master key is not the one that it was "
                "encrypted with. All servers and commands of a store need the same one: set --master-key (or "
                "MINI_S3_MASTER_KEY), or copy DATA/master.key from the server that was there first."
            ) from None
