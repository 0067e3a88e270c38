"""Certificates for node servers of tests, and the authorities that they are from."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import trustme

from app.nodes.trust import trusting


class Authority:
    """Known to nobody but those who are given its certificate, which is the file `path`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self._issued = 0
        self.path = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(self.path)

    def trust(self) -> ssl.SSLContext:
        return trusting(self.path)

    def files(
        self, host: str = "127.0.0.1", *, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> tuple[Path, Path]:
        """A new certificate, and its key."""
        self._issued += 1
        certificate = self._ca.issue_cert(host, not_before=not_before, not_after=not_after)
        paths = self._folder / f"{self._issued}.pem", self._folder / f"{self._issued}.key"
        certificate.cert_chain_pems[0].write_to_path(paths[0])
        certificate.private_key_pem.write_to_path(paths[1])
        return paths

    def flags(self, host: str = "127.0.0.1") -> tuple[str, ...]:
        """With which a node server shows a new certificate."""
        certificate, key = self.files(host)
        return "--tls-cert", str(certificate), "--tls-key", str(key)
