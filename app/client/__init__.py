"""A client of Mini-S3: `Client` for programs with an event loop, `BlockingClient` for others.

Whatever goes wrong is a `MiniS3Error`, or an OSError of the local file.
"""

from app.client.blocking import BlockingClient
from app.client.client import Client
from app.client.errors import Ambiguous, FileChanged, FileExists, NoMiniS3, NotRegular, Refused, Unreachable
from app.client.memory import usual_place
from app.client.putting import Outcome, Wanted
from app.client.results import FileDetails, Span, Statistics, StoredFile, Upload
from app.client.trees import Plan, Selection, files_below, plan, prefix_of
from app.client.watch import Watch
from app.errors import ConfigError, Forbidden, MiniS3Error, NotFound, RateLimited, Unauthenticated, Unavailable

__all__ = [
    "Ambiguous",
    "BlockingClient",
    "Client",
    "ConfigError",
    "FileChanged",
    "FileDetails",
    "FileExists",
    "Forbidden",
    "MiniS3Error",
    "NoMiniS3",
    "NotFound",
    "NotRegular",
    "Outcome",
    "Plan",
    "RateLimited",
    "Refused",
    "Selection",
    "Span",
    "Statistics",
    "StoredFile",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Upload",
    "Wanted",
    "Watch",
    "files_below",
    "plan",
    "prefix_of",
    "usual_place",
]
