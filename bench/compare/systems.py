"""The systems that are compared, each started with its defaults in a folder of its own."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any, Protocol, cast
from urllib.parse import quote
from xml.etree import ElementTree

import gridfs
import pymongo
from bson import ObjectId

from app.embedded import mongod
from bench.compare import wire
from bench.compare.figures import BARE, GRIDFS, OURS, SEAWEED
from bench.compare.processes import cpu_seconds, free_ports, listens, running
from bench.http import MIB, Client, HttpError
from bench.memory import at_once
from bench.server import Server, ServerFailed, running_server

_ROOT = Path(__file__).parents[2]
BUCKET = "bench"
_UNLIMITED = "1000000000/minute"

NO_WEED = "SeaweedFS is missing: no program `weed` beside this Python or on PATH. Install it: pip install -e '.[bench]'"


class Unexpected(Exception):
    """A system answered well, but not what it was to do."""


class System(Protocol):
    """`upload` returns the key for `download`, which fills `into`. Both may be called by several threads."""

    name: str

    def upload(self, data: bytes, name: str) -> str: ...
    def download(self, key: str, into: bytearray) -> None: ...
    def cpu(self) -> dict[str, float]:
        """Processor seconds so far: "server" what the system runs, "database" its MongoDB."""
        ...


def pieces(data: bytes) -> Iterator[memoryview]:
    """The same bytes in pieces of 1 MiB, without a copy."""
    view = memoryview(data)
    for at in range(0, len(data), MIB):
        yield view[at : at + MIB]


def _post(client: Client, data: bytes, name: str) -> Any:
    return client.upload(name, len(data), cast("Iterator[bytearray]", pieces(data)))


@dataclass
class MiniS3:
    server: Server
    folder: Path
    name: str = OURS

    @property
    def address(self) -> str:
        return self.server.url.removeprefix("http://")

    def upload(self, data: bytes, name: str) -> str:
        answer = _post(self.server.client, data, name)
        new = answer["chunks"]["new"]
        if new not in (0, answer["chunks"]["total"]) or (new == 0) != name.startswith("known"):
            raise Unexpected(f"{new} chunks of {name} were new to Mini-S3")
        return f"/api/files/{answer['fileId']}"

    def download(self, key: str, into: bytearray) -> None:
        wire.get(self.address, key, into)

    def cpu(self) -> dict[str, float]:
        found = self.server.processes()
        own = [*found["supervisor"], *found.get("worker", [])]
        return {"server": cpu_seconds(own), "database": cpu_seconds(found.get("mongod", []))}


@dataclass
class S3Api:
    """The S3 API at an address, which asks nobody for a signature and has the bucket `BUCKET`."""

    address: str

    def upload(self, data: bytes, name: str) -> str:
        key = f"/{BUCKET}/{name}"
        wire.put(self.address, key, len(data), pieces(data))
        return key

    def upload_in_parts(self, parts: Sequence[bytes], name: str) -> str:
        """A multipart upload of all parts at the same time, each over a connection of its own, from its creation to
        its completion. Raises HttpError, OSError."""
        key = f"/{BUCKET}/{name}"
        created = ElementTree.fromstring(wire.post(self.address, f"{key}?uploads"))
        upload = f"uploadId={quote(created.findtext('{*}UploadId') or '', safe='')}"
        etags = [""] * len(parts)

        def send(number: int, _: Event) -> None:
            path = f"{key}?partNumber={number + 1}&{upload}"
            etags[number] = wire.put(self.address, path, len(parts[number]), pieces(parts[number]))

        at_once(len(parts), send)
        answer = wire.post(self.address, f"{key}?{upload}", _completion(etags))
        # After 200 it may still say that it failed.
        if not ElementTree.fromstring(answer).tag.endswith("CompleteMultipartUploadResult"):
            raise HttpError(f"{key} was not completed: {answer[:2000].decode(errors='replace')}")
        return key

    def download(self, key: str, into: bytearray) -> None:
        wire.get(self.address, key, into)


def _completion(etags: Sequence[str]) -> bytes:
    """The body of CompleteMultipartUpload."""
    root = ElementTree.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for number, etag in enumerate(etags, 1):
        part = ElementTree.SubElement(root, "Part")
        ElementTree.SubElement(part, "PartNumber").text = str(number)
        ElementTree.SubElement(part, "ETag").text = etag
    return ElementTree.tostring(root)


@dataclass
class MiniS3Api(S3Api):
    """The S3 API of a `store`."""

    store: MiniS3
    name: str = OURS

    def cpu(self) -> dict[str, float]:
        return self.store.cpu()


@dataclass
class Seaweed(S3Api):
    pid: int
    folder: Path
    name: str = SEAWEED

    def cpu(self) -> dict[str, float]:
        return {"server": cpu_seconds([self.pid])}


@dataclass
class GridFS:
    client: pymongo.MongoClient[dict[str, Any]]
    pid: int
    name: str = GRIDFS

    def upload(self, data: bytes, name: str) -> str:
        return str(self._bucket.upload_from_stream(name, io.BytesIO(data)))

    def download(self, key: str, into: bytearray) -> None:
        inbox = _Inbox(into)
        self._bucket.download_to_stream(ObjectId(key), inbox)
        if inbox.filled != len(into):
            raise Unexpected(f"GridFS sent {inbox.filled} bytes of {len(into)}")

    def cpu(self) -> dict[str, float]:
        return {"database": cpu_seconds([self.pid])}

    def clear(self) -> None:
        """Give the disk back."""
        self.client.drop_database(BUCKET)

    @property
    def _bucket(self) -> gridfs.GridFSBucket:
        return gridfs.GridFSBucket(self.client[BUCKET])


class _Inbox:
    def __init__(self, into: bytearray) -> None:
        self._view = memoryview(into)
        self.filled = 0

    def write(self, data: bytes) -> None:
        self._view[self.filled : self.filled + len(data)] = data
        self.filled += len(data)


@dataclass
class Bare:
    address: str
    pid: int
    name: str = BARE

    def upload(self, data: bytes, name: str) -> str:
        answer = _post(Client(f"http://{self.address}"), data, name)
        if answer["bytes"] != len(data):
            raise Unexpected(f"the bare handler counted {answer['bytes']} bytes of {len(data)}")
        return ""

    def download(self, key: str, into: bytearray) -> None:
        raise NotImplementedError

    def cpu(self) -> dict[str, float]:
        return {"server": cpu_seconds([self.pid])}


@contextmanager
def mini_s3(folder: Path, *flags: str) -> Iterator[MiniS3]:
    """One worker if `flags` don't say otherwise, embedded databases, three nodes; the rate limits are lifted."""
    folder.mkdir()
    limits = [word for rate in ("api", "upload", "download") for word in (f"--rate-{rate}", _UNLIMITED)]
    with running_server(folder, *limits, *flags) as server:
        yield MiniS3(server, folder)


@contextmanager
def mini_s3_api(folder: Path) -> Iterator[MiniS3Api]:
    """The same, asked through its S3 API. Raises ServerFailed."""
    (port,) = free_ports(1)
    with mini_s3(folder, "--s3-port", str(port)) as store:
        if not _creates_bucket(port):
            raise ServerFailed(f"The S3 API of Mini-S3 did not create the bucket {BUCKET}")
        yield MiniS3Api(f"127.0.0.1:{port}", store)


def find_weed() -> Path:
    """The program of the extra `bench`, else the one on PATH. Raises ServerFailed if there is none."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise ServerFailed(NO_WEED)
    return Path(found)


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """`weed server -s3` with its defaults, but on free ports, on loopback, and reporting to nobody."""
    folder.mkdir()
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    *others, s3, s3_grpc = free_ports(len(names) + 2)
    ports = [f"-{name}={port}" for name, port in zip(names, others, strict=True)]
    ports += [f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command = [str(find_weed()), "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-master.telemetry=false", *ports]
    try:
        with running(command, folder, folder / "weed.log", lambda: _creates_bucket(s3)) as pid:
            yield Seaweed(f"127.0.0.1:{s3}", pid, folder)
    finally:
        # It puts sockets there whatever TMPDIR says, and leaves them behind.
        for port in (*others, s3, s3_grpc):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def _creates_bucket(port: int) -> bool:
    """Anybody may: without a configuration of its own the gateway asks nobody for a signature."""
    connection = HTTPConnection(f"127.0.0.1:{port}", timeout=10)
    try:
        connection.request("PUT", f"/{BUCKET}")
        return connection.getresponse().status in (200, 409)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def mongodb(folder: Path) -> Iterator[tuple[str, int]]:
    """The mongod that Mini-S3 embeds, run as it runs it; its URL and process number.

    It is to be made a set of one by `primary`, which has threads and so comes after all processes.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="mini-s3-bench-") as sockets:
        program = mongod.program(mongod.find_binary(), data, Path(sockets), folder / "mongod.log")
        with running(program.command, folder, folder / "mongod.log", program.ready, program.cwd) as pid:
            yield mongod.url(Path(sockets)), pid


@contextmanager
def primary(url: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """Make a fresh mongod a set of one; a client of it with PyMongo's defaults. Raises ServerFailed."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        members = [{"_id": 0, "host": mongod.INITIATE}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        deadline = monotonic() + 60
        while not client.admin.command("hello")["isWritablePrimary"]:
            if monotonic() > deadline:
                raise ServerFailed("MongoDB did not become primary within a minute")
            sleep(0.05)
        yield client


@contextmanager
def grid_fs(url: str, pid: int) -> Iterator[GridFS]:
    """GridFS with PyMongo's defaults. Raises ServerFailed."""
    with primary(url) as client:
        yield GridFS(client, pid)


@contextmanager
def bare(folder: Path) -> Iterator[Bare]:
    """Starlette on uvicorn with its defaults, but no line logged for each request."""
    folder.mkdir()
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "bench.compare.bare:app", "--port", str(port), "--no-access-log"]
    with running(command, folder, folder / "bare.log", lambda: listens(port), _ROOT) as pid:
        yield Bare(f"127.0.0.1:{port}", pid)


@contextmanager
def trivial(folder: Path) -> Iterator[str]:
    """The address of a server that only says ok."""
    folder.mkdir()
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.compare.trivial", str(port)]
    with running(command, folder, folder / "trivial.log", lambda: listens(port), _ROOT):
        yield f"127.0.0.1:{port}"


def check_same(received: bytearray, sent: bytes, what: str) -> None:
    """Raises HttpError if the bytes differ."""
    if received != sent:
        raise HttpError(f"{what}: the bytes that came back differ from those that were sent")
