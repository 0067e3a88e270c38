"""What the driver raises, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from app.errors import DatabaseUnavailable, MiniS3Error
from app.logs import get_logger

log = get_logger(__name__)

_SNAPSHOT_TOO_OLD = 239
_TRANSIENT = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")


class DuplicateKey(MiniS3Error):
    """A document with this id exists; models catch it, it never leaves them."""

    code = "duplicate-key"


class SnapshotTooOld(MiniS3Error):
    """A long reading outlasted what the server keeps of the past."""

    code = "snapshot-too-old"


@contextmanager
def translated(session: Any = None) -> Iterator[None]:
    """Inside a transaction the driver must see its own errors, so that it can run it again."""
    try:
        yield
    except PyMongoError as error:
        if session is not None and session.in_transaction:
            raise
        raise translate(error) from error


def translate(error: PyMongoError) -> Exception:
    if isinstance(error, DuplicateKeyError):
        return DuplicateKey(str(error))
    if isinstance(error, OperationFailure) and error.code == _SNAPSHOT_TOO_OLD:
        return SnapshotTooOld(
            "The database forgot the moment that was being read. Let it keep more of the past: "
            "setParameter minSnapshotHistoryWindowInSeconds=3600 in mongod."
        )
    if isinstance(error, ConnectionFailure) or error.timeout or any(map(error.has_error_label, _TRANSIENT)):
        log.warning("database unavailable", error=str(error)[:300])
        return DatabaseUnavailable("The database does not answer. Try again in a few seconds.")
    return error
