"""The headers of every answer of the native API."""

from __future__ import annotations

from collections.abc import Iterable

_SECURITY = {
    # As Helmet sets them, but for `upgrade-insecure-requests`: a server that is reached over plain
    # HTTP in a local network would then serve a page without its own script.
    "Content-Security-Policy": (
        "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';"
        "img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';"
        "style-src 'self' https: 'unsafe-inline'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Origin-Agent-Cluster": "?1",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "X-Download-Options": "noopen",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-XSS-Protection": "0",
}
_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _SECURITY.items()]
_SECURITY_NAMES = frozenset(name for name, _ in _SECURITY_HEADERS)


def surrounded(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers with ours behind them; of the security headers it may have set its own."""
    own = {name for name, _ in headers}
    security: Iterable[tuple[bytes, bytes]] = _SECURITY_HEADERS
    if not own.isdisjoint(_SECURITY_NAMES):
        security = (header for header in _SECURITY_HEADERS if header[0] not in own)
    return [*headers, (b"x-request-id", request_id.encode()), *security]
