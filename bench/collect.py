"""What deleting and collecting cost: `python -m bench.collect`.

A million chunk documents, of which no file holds any, are put into the database; their blobs are not
there, so that what is measured is the collector itself. Uploads are measured with and without it.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import click
import pymongo
from bson import ObjectId

from app.embedded.data_dir import running
from bench.documents import batches, chunk_documents, page_of
from bench.http import MIB
from bench.memory import peak_memory
from bench.server import Server, running_server
from bench.workspace import workspace

_PAGES = 10
_PAGE = 1024
_UPLOAD = 256
"""MiB of each upload that is measured."""


@click.command()
@click.option("--chunks", default=1_000_000, show_default=True, type=click.IntRange(1), help="Chunks to collect.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="Uploads with and without.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the server stores.")
def main(chunks: int, rounds: int, parent: Path | None) -> None:
    """Measure a deletion of 10 GiB, the rate of a collection, and what it costs uploads."""
    with workspace((2 * rounds * _UPLOAD + 2048) * MIB, parent) as folder:
        with running_server(folder, "--gc-interval", "0") as server, _store(folder) as store:
            click.echo(f"DELETE of a file of 10 GiB: {_delete(server, store) * 1000:.0f} ms")
            alone = [_upload(server) for _ in range(rounds)]
            _populate(store, chunks)
            _collect(folder)
            _populate(store, chunks)
        with running_server(folder, "--gc-interval", "1", "--grace", "0") as server, _store(folder) as store:
            before = store.chunks.count_documents({"refs": 0})
            beside = [_upload(server) for _ in range(rounds)]
            after = store.chunks.count_documents({"refs": 0})
            click.echo(f"uploads beside the collector, which removed {before - after:,} chunks meanwhile:")
            click.echo(f"  {median(beside):.0f} MiB/s, {median(alone):.0f} alone: {median(beside) / median(alone):.2f}")


def _collect(folder: Path) -> None:
    """Run the command and tell its rate and its peak of resident memory."""
    start = perf_counter()
    words = [sys.executable, "-m", "app", "gc", "--data-dir", str(folder / "data"), "--grace", "0", "--json"]
    peak = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            with suppress(OSError, StopIteration):
                peak = peak_memory(process.pid)
            sleep(0.05)
        assert process.stdout
        done = json.load(process.stdout)
    seconds = perf_counter() - start
    click.echo(f"gc by hand: {done['chunksRemoved']:,} chunks in {seconds:.0f} s")
    click.echo(f"  {done['chunksRemoved'] / seconds:,.0f} chunks/s, peak {peak / MIB:.0f} MiB")


def _store(folder: Path) -> Any:
    state = running(folder / "data")
    assert state
    return _Closing(pymongo.MongoClient(state.mongo_url))


class _Closing:
    def __init__(self, client: pymongo.MongoClient[dict[str, Any]]) -> None:
        self._client = client

    def __enter__(self) -> Any:
        return self._client["mini_s3"]

    def __exit__(self, *error: object) -> None:
        self._client.close()


def _populate(store: Any, count: int) -> None:
    for documents in batches(chunk_documents(count)):
        store.chunks.insert_many(documents, ordered=False)


def _delete(server: Server, store: Any) -> float:
    """Seconds that the deletion of a file of ten full pages takes."""
    listed = []
    for _ in range(_PAGES):
        chunks = list(chunk_documents(_PAGE, refs=1))
        page = page_of(chunks)
        store.chunks.insert_many(chunks)
        store.pages.insert_one({"_id": page.id, "packed": page.pack(), "refs": 1, "at": datetime.now(UTC)})
        listed.append({"id": page.id, "size": _PAGE * MIB, "chunks": _PAGE})
    file_id = ObjectId()
    described = {"name": "10 GiB", "contentType": "x/y", "contentId": "0" * 64, "owner": "local"}
    size = _PAGES * _PAGE * MIB
    store.files.insert_one({"_id": file_id, "size": size, "createdAt": datetime.now(UTC), "pages": listed, **described})
    start = perf_counter()
    words = ["curl", "-sf", "-X", "DELETE", f"{server.url}/api/files/{file_id}"]
    subprocess.run(words, check=True)
    return perf_counter() - start


def _upload(server: Server) -> float:
    """MiB a second of one upload of new bytes."""
    blocks = [bytearray(secrets.token_bytes(MIB)) for _ in range(_UPLOAD)]
    start = perf_counter()
    server.client.upload("new.bin", _UPLOAD * MIB, blocks)
    return _UPLOAD / (perf_counter() - start)


if __name__ == "__main__":
    main()
