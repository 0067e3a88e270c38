"""The native API as one ASGI application."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.api.callers import Gate
from app.api.download import Download
from app.api.files import Files
from app.api.limits import RateLimits
from app.api.methods import Endpoint, by_method
from app.api.problems import on_error, on_fault, on_http_exception
from app.api.security import surrounded
from app.api.service import HERE, Service
from app.api.tus import Tus, spoken
from app.api.tus_protocol import ANSWERED as TUS_HEADERS
from app.api.upload import Upload
from app.api.uploads import Uploads
from app.errors import MiniS3Error
from app.store.access import Access
from app.store.readiness import Readiness
from app.store.stats import Statistics
from app.store.store import Store
from app.store.uploads import UploadStore
from app.web.context import Linger, RequestContext


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API is a face of."""

    store: Store
    statistics: Statistics
    readiness: Readiness
    limits: RateLimits
    access: Access
    uploads: UploadStore


def build_api(parts: Parts, *, cors_origins: tuple[str, ...], idle_timeout: float) -> ASGIApp:
    app = Starlette(
        routes=_routes(parts, idle_timeout),
        middleware=_cors(cors_origins),
        exception_handlers={MiniS3Error: on_error, HTTPException: on_http_exception, Exception: on_fault},
    )
    return RequestContext(Linger(app), surrounded)


def _routes(parts: Parts, idle_timeout: float) -> list[Route | Mount]:
    guard, gate = parts.limits.guard, Gate(parts.access)
    asks = gate.asks
    upload, download, files = Upload(parts.store, idle_timeout), Download(parts.store), Files(parts.store)
    service = Service(parts.statistics, parts.readiness)
    metrics, page = guard("api", asks("admin", service.metrics)), guard("api", asks(None, service.page))
    return [
        # In the order in which they are tried: what is asked for most often is first.
        Route(
            "/api/files/{id}",
            by_method(
                {
                    "GET": guard("download", asks("read", download.by_id)),
                    "DELETE": guard("api", asks("delete", files.delete)),
                }
            ),
            methods=["GET", "DELETE"],
        ),
        Route("/api/upload", guard("upload", asks("write", upload.endpoint)), methods=["POST"]),
        Route("/api/files", guard("api", asks("list", files.list_files)), methods=["GET"]),
        Route("/api/files/{id}/info", guard("api", asks("read", files.info)), methods=["GET"]),
        Route("/api/files/{id}/manifest", guard("api", asks("read", files.manifest)), methods=["GET"]),
        Route("/api/content/{id}", guard("download", asks("read", download.by_content)), methods=["GET", "HEAD"]),
        *_upload_routes(parts, idle_timeout),
        Route("/api/stats", guard("api", asks("admin", service.stats)), methods=["GET"]),
        Route("/health", service.health, methods=["GET"]),
        Route("/ready", service.ready, methods=["GET"]),
        Route("/metrics", gate.if_closed(metrics, service.metrics), methods=["GET"]),
        Route("/openapi.json", service.openapi, methods=["GET"]),
        Route("/", gate.if_closed(page, service.page), methods=["GET"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


def _upload_routes(parts: Parts, idle_timeout: float) -> list[Route | Mount]:
    """An upload counts once, when it begins: how many requests its bytes come in is not limited."""
    guard, gate = parts.limits.guard, Gate(parts.access)
    uploads = Uploads(parts.uploads, idle_timeout)

    def begins(endpoint: Endpoint) -> Endpoint:
        return guard("upload", gate.asks("write", endpoint))

    def asks(endpoint: Endpoint) -> Endpoint:
        return guard("api", gate.asks("write", endpoint))

    def sends(endpoint: Endpoint) -> Endpoint:
        return gate.asks("write", endpoint)

    tus = Tus(parts.uploads, idle_timeout)
    described = guard("api", tus.describe)
    begun = spoken({"POST": begins(tus.create), "OPTIONS": described})
    goes_on = {"HEAD": asks(tus.show), "PATCH": sends(tus.append), "DELETE": asks(tus.terminate), "OPTIONS": described}
    many = {"GET": asks(uploads.list_sessions), "POST": begins(uploads.create)}
    one = {"GET": asks(uploads.show), "DELETE": asks(uploads.abort)}
    return [
        Route("/api/uploads/{id}/chunks/{digest}", sends(uploads.put_chunk), methods=["PUT"]),
        Route("/api/uploads/{id}/parts/{number}", sends(uploads.put_part), methods=["PUT"]),
        Route("/api/uploads/{id}/missing", asks(uploads.missing), methods=["POST"]),
        Route("/api/uploads/{id}/complete", asks(uploads.complete), methods=["POST"]),
        Route("/api/uploads/{id}", by_method(one), methods=["GET", "DELETE"]),
        Route("/api/uploads", by_method(many), methods=["GET", "POST"]),
        Route("/api/tus/{id}", spoken(goes_on), methods=[*goes_on, "POST"]),
        Route("/api/tus", begun, methods=["POST", "OPTIONS"]),
        Route("/api/tus/", begun, methods=["POST", "OPTIONS"], include_in_schema=False),
    ]


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=[
                "ETag",
                "Location",
                "Content-Range",
                "Content-Disposition",
                "X-Request-Id",
                "Retry-After",
                *TUS_HEADERS,
            ],
        )
    ]
