"""One path, several methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]


def by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    """One endpoint for several methods of a path, so that a 405 there can name all of them. HEAD goes with GET."""

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint
