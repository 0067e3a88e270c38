"""Who calls the native API: an access key and its secret, in the header Authorization (RFC 9110, section 11.6.2).

Authorization: Basic base64(ACCESS_KEY:SECRET)     RFC 7617
Authorization: Bearer ACCESS_KEY:SECRET            the same in clear, where Basic is inconvenient
"""

from __future__ import annotations

import base64
import functools

from starlette.requests import Request
from starlette.responses import Response

from app.api.methods import Endpoint
from app.errors import Unauthenticated
from app.models.keys import Permission
from app.store.access import EVERYONE, Access, Caller


class Gate:
    """Lets callers in that name a key which is good for what they want; on an open server everybody."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def asks(self, permission: Permission | None, endpoint: Endpoint) -> Endpoint:
        """The endpoint, for callers with this permission, or with any key. It raises Unauthenticated or Forbidden
        instead, before the body is read."""

        @functools.wraps(endpoint)
        async def asked(request: Request) -> Response:
            caller = await self._caller(request)
            if permission is not None:
                caller.require_some(permission)
            request.scope["caller"] = caller
            return await endpoint(request)

        return asked

    def if_closed(self, closed: Endpoint, otherwise: Endpoint) -> Endpoint:
        """One endpoint for a server that asks for keys, another one for one that is open."""

        @functools.wraps(otherwise)
        async def chosen(request: Request) -> Response:
            return await (otherwise if self._access.is_open else closed)(request)

        return chosen

    async def _caller(self, request: Request) -> Caller:
        if self._access.is_open:
            return EVERYONE
        header = request.headers.get("authorization")
        if header is None:
            raise Unauthenticated("The call needs an access key and its secret: Authorization: Basic, or Bearer.")
        return await self._access.authenticate(*parse_authorization(header))


def caller_of(request: Request) -> Caller:
    """Who makes this request, once it has passed the gate."""
    caller: Caller = request.scope["caller"]
    return caller


def parse_authorization(header: str) -> tuple[str, str]:
    """The access key and the secret. Raises Unauthenticated where there are none."""
    scheme, _, rest = header.partition(" ")
    try:
        match scheme.lower():
            case "basic":
                pair = base64.b64decode(rest.strip(), validate=True).decode()
            case "bearer":
                pair = rest.strip().encode("latin-1").decode()
            case _:
                pair = ""
    except ValueError:
        pair = ""
    access_key, colon, secret = pair.partition(":")
    if not (access_key and colon and secret):
        raise Unauthenticated(
            "The header Authorization must be `Basic` and base64 of ACCESS_KEY:SECRET, or `Bearer ACCESS_KEY:SECRET`."
        )
    return access_key, secret
