"""Whom to believe that it is a node server: certificates, and what is wrong with one."""

from __future__ import annotations

import ssl
from pathlib import Path

from app.errors import ConfigError

# How OpenSSL numbers what it finds (X509_V_ERR_…).
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}


def trusting(authorities: Path) -> ssl.SSLContext:
    """Believes the authorities whose certificates are in the file (PEM), and those that the system trusts.

    Certificates and the names in them are always checked. Reads files. Raises ConfigError.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=authorities)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{authorities} (--node-ca, or MINI_S3_NODE_CA) holds no certificates in PEM format: name the file with "
            "the certificate of the authority that those of the node servers are from."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"The certificates in {authorities} (--node-ca, or MINI_S3_NODE_CA) can't be read: {error.strerror}."
        ) from error
    return context


def passes_with_time(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the certificate is a good one, but not at this hour."""
    return error.verify_code in (_NOT_YET, _EXPIRED)


def refusal(error: ssl.SSLError) -> str:
    """What is wrong with a server, and what to do about it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        found = (error.reason or str(error)).replace("_", " ").lower()
        return f"no TLS 1.2 or newer is spoken there ({found}). If it is served without a certificate, say http://"
    found = error.verify_message
    if error.verify_code == _EXPIRED:
        return "its certificate has expired. Renew it there, and start the node server again"
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet. Are the clocks right, here and where it was made?"
    if error.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        return f"its certificate is another host's ({found}). Name the node as its certificate does, or renew that"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            f"its certificate is from an authority that nobody here trusts ({found}). "
            "Name the file with that authority's certificate with --node-ca, or as MINI_S3_NODE_CA"
        )
    return f"its certificate is not accepted: {found}"
