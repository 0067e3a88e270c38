"""The objects in a bucket on an S3 engine, through obstore, which is imported nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Never

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError
from obstore.store import S3Store

from app.errors import ConfigError, NodeError, NodeFull
from app.nodes.s3_address import Address

CONNECT = timedelta(seconds=5)
REQUEST = timedelta(seconds=20)
"""The most that one request may take, from its first byte to the answer's last."""
RETRIES = 2
RETRY = timedelta(seconds=10)
"""Time from the first attempt after which there is no other: it is over after `RETRY` and `REQUEST` at the latest."""

_PAGE = 1000
_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507 Insufficient Storage"}
_REFUSED = re.compile("status code: 40[13] ")
_HOW = (
    re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>"),
    re.compile(r"status code: (\d{3}[A-Za-z ]{0,40})"),
    re.compile(r'message: "([^"]{1,80})"'),
    re.compile(r"kind: (Timeout|Connect|Decode|Interrupted)"),
)


class BucketMissing(NodeError):
    """The engine answers, and has no such bucket."""


class Bucket:
    """Objects by their keys below the address's prefix. Every request ends within bounded time (see `RETRY`).

    They raise FileNotFoundError for an object that is not there, where that is said; BucketMissing;
    NodeFull; NodeError for everything else. Errors show the engine's code or the kind of the failure,
    and nothing else of its answer: that may repeat what was signed, the session token included.
    """

    def __init__(self, address: Address) -> None:
        """Reads the credentials from the environment. Raises ConfigError."""
        self._where = address.location
        if address.endpoint and not address.anonymous and not any(map(os.environ.get, _SOURCES)):
            raise ConfigError(
                f"The node {self._where} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or put anonymous=yes into its URL if its engine asks nobody."
            )
        try:
            self._store = _store(address)
        except (BaseError, ValueError) as error:
            raise ConfigError(f"The node {self._where}: AWS_… variables are wrong: {_first_line(error)}") from None

    async def put(self, key: str, data: bytes | memoryview) -> None:
        """Store an object. `data` is in use until the call returns.

        A checksum (CRC-64/NVME) goes with it, which engines compare that know it.
        """
        with self._translated():
            try:
                await obstore.put_async(self._store, key, data, use_multipart=False)
            except FileNotFoundError as error:
                self._fail(error)

    async def put_new(self, key: str, data: bytes) -> None:
        """Store an object if there is none of this key, in one step. Raises FileExistsError where there is."""
        with self._translated():
            try:
                await obstore.put_async(self._store, key, data, mode="create")
            except AlreadyExistsError:
                raise FileExistsError(key) from None
            except FileNotFoundError as error:
                self._fail(error)

    async def get(self, key: str) -> bytes:
        """Raises FileNotFoundError."""
        with self._translated():
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """The object's size; if that is the buffer's, its bytes are in there. Raises FileNotFoundError."""
        with self._translated():
            found = await obstore.get_async(self._store, key)
            if found.meta["size"] != len(buffer):
                return found.meta["size"]
            data = memoryview(await found.bytes_async())
            if len(data) == len(buffer):
                buffer[:] = data
            return len(data)

    async def has(self, key: str) -> bool:
        with self._translated():
            try:
                await obstore.head_async(self._store, key)
            except FileNotFoundError:
                return False
            return True

    async def list(self, folder: str = "") -> AsyncGenerator[tuple[str, int], None]:
        """Keys below a folder, and sizes."""
        with self._translated():
            try:
                async for page in obstore.list(self._store, folder or None, chunk_size=_PAGE):
                    for found in page:
                        yield found["path"], found["size"]
            except FileNotFoundError as error:
                self._fail(error)
            except InvalidPathError:
                raise NodeError(
                    f"{self._where}: an object there has a name that can't be read; it is none of ours"
                ) from None

    async def copy(self, key: str, to: str) -> None:
        """Raises FileNotFoundError."""
        with self._translated():
            await obstore.copy_async(self._store, key, to)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand with one request; those that are not there are fine."""
        with self._translated():
            try:
                await obstore.delete_async(self._store, keys)
            except FileNotFoundError as error:
                self._fail(error)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if _reason(error) == "NoSuchBucket":
                self._fail(error)
            raise FileNotFoundError(f"{self._where}: no such object") from None
        except BaseError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> Never:
        reason = _reason(error)
        if reason == "NoSuchBucket":
            raise BucketMissing(f"{self._where}: there is no such bucket") from None
        if _REFUSED.search(str(error)) and reason not in _FULL:
            raise NodeError(
                f"{self._where}: the engine refuses ({reason}). Are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "right, and may they read, write, list and delete in this bucket?"
            ) from None
        raise (NodeFull if reason in _FULL else NodeError)(f"{self._where}: {reason}") from None


def _store(address: Address) -> S3Store:
    """All that matters is said here, so that no AWS_… variable but credentials can send it elsewhere."""
    return S3Store(
        address.bucket,
        prefix=address.prefix or None,
        config={
            "endpoint": address.service,
            "aws_endpoint_url_s3": address.service,
            "region": address.region,
            "virtual_hosted_style_request": not address.path_style,
            "skip_signature": address.anonymous,
            "unsigned_payload": True,
            "checksum_algorithm": "CRC64NVME",
            "conditional_put": "etag",
        },
        client_options={
            "allow_http": address.service.startswith("http:"),
            "connect_timeout": CONNECT,
            "timeout": REQUEST,
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
    )


def _reason(error: Exception) -> str:
    """The code in the engine's answer, else the HTTP status, else what was wrong with the connection."""
    found = next(filter(None, (pattern.search(str(error)) for pattern in _HOW)), None)
    reason = found[1].strip() if found else f"not an answer of S3 ({type(error).__name__})"
    return {"Timeout": "no answer in time", "Connect": "no connection"}.get(reason, reason)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
