"""MongoDB hangs, or is gone: clear errors within seconds, and it comes back by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pymongo
import pytest

from app.errors import DatabaseUnavailable
from app.models.database import Session, UpdateOne, open_database
from tests.faults.tools import (
    CLIENT_PATIENCE,
    FORM,
    GENEROUS,
    MIB,
    OwnDatabase,
    code_of,
    form_head,
    metric,
    own_mongod,
    paused_body,
    read_back,
    transactions_end_after,
)
from tests.support import Server, eventually, eventually_async

UNAVAILABLE = (503, "database-unavailable")


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnDatabase]:
    with own_mongod(tmp_path_factory.mktemp("own")) as database:
        yield database


@pytest.fixture(scope="module")
def server(mongo: OwnDatabase, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, mongo_url=mongo.url, redis_url=redis_url, shutdown_timeout=1, **GENEROUS)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["hanging", "gone"])
def away(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def take_away(mongo: OwnDatabase, how: str) -> None:
    if how == "hanging":
        mongo.pause()
    else:
        mongo.kill()


def bring_back(mongo: OwnDatabase, how: str, server: Server) -> None:
    if how == "hanging":
        mongo.go_on()
    else:
        mongo.start()
    eventually(lambda: server.client.get("/ready").status_code == 200)


def refused(answer: httpx.Response) -> None:
    assert code_of(answer) == UNAVAILABLE
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_transaction_that_loses_the_database_is_not_tried_for_ever(
    server: Server, mongo: OwnDatabase, away: str
) -> None:
    content = os.urandom(1000)
    kept = server.upload(content)["fileId"]

    def ask(method: str, path: str) -> None:
        with httpx.Client(base_url=server.url, timeout=CLIENT_PATIENCE, trust_env=False) as client:
            # Statistics that are fresh enough are given out without asking the database.
            refused(eventually(lambda: (answer := client.request(method, path)).status_code != 200 and answer))

    take_away(mongo, away)
    try:
        # Both meet the loss at the same time: each has to notice it by itself.
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(ask, "DELETE", f"/api/files/{kept}"), threads.submit(ask, "GET", "/api/stats")]
        for call in calls:
            call.result()
    finally:
        bring_back(mongo, away, server)
    assert server.client.get("/api/stats").status_code == 200
    read_back(server, server.upload(content)["fileId"], content)


def test_an_upload_that_holds_a_page_and_loses_the_database_fails_whole(server: Server, mongo: OwnDatabase) -> None:
    # The page of the first file is held by the upload, so that giving it up takes a transaction too.
    before, after = os.urandom(34 * MIB), os.urandom(34 * MIB)

    def body() -> Iterator[bytes]:
        yield form_head("lost-1") + b"first\r\n"
        yield from paused_body(before, mongo.pause, after, "lost-2")

    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_PATIENCE, trust_env=False) as client:
            refused(client.post("/api/upload", content=body(), headers=FORM))
            assert client.get("/health").status_code == 200
            ready = client.get("/ready")
            assert (ready.status_code, ready.json()["database"]) == (503, "down")
    finally:
        bring_back(mongo, "hanging", server)
    assert not server.client.get("/api/files", params={"name": "lost"}).json()["files"]
    assert metric(server, "mini_s3_buffers_bytes") == 0
    read_back(server, server.upload(before + after)["fileId"], before + after)


def test_many_calls_at_once_are_all_told_in_time(server: Server, mongo: OwnDatabase) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> int:
        match number % 3:
            case 0:
                answer = await client.post("/api/upload", files={"file": (f"crowd-{number}", os.urandom(100))})
            case 1:
                answer = await client.get("/api/files")
            case _:
                answer = await client.get("/api/stats")
        return answer.status_code

    async def ask_all() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=CLIENT_PATIENCE, trust_env=False) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(90)))

    mongo.pause()
    try:
        eventually(lambda: server.client.get("/api/stats").status_code == 503)
        assert set(asyncio.run(ask_all())) == {503}
    finally:
        bring_back(mongo, "hanging", server)
    assert not server.client.get("/api/files", params={"name": "crowd"}).json()["files"]


def fail_next(mongo: OwnDatabase, command: str, times: int, data: dict[str, object]) -> None:
    with pymongo.MongoClient[dict[str, object]](mongo.url) as client:
        client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": times} if times else "off",
            data={"failCommands": [command], "appName": "mini-s3", **data},
        )


def test_a_database_that_answers_slowly_is_not_given_up(server: Server, mongo: OwnDatabase) -> None:
    content = os.urandom(3 * MIB)
    slow: dict[str, object] = {"blockConnection": True, "blockTimeMS": 3000}
    fail_next(mongo, "commitTransaction", 1, slow)
    read_back(server, server.upload(content)["fileId"], content)


@pytest.mark.parametrize("label", ["TransientTransactionError", "UnknownTransactionCommitResult"])
def test_a_commit_that_fails_for_a_moment_is_tried_again(server: Server, mongo: OwnDatabase, label: str) -> None:
    content = os.urandom(1000)
    # 251 is NoSuchTransaction, 64 WriteConcernFailed: the first asks for a new transaction.
    error: dict[str, object] = {"errorCode": 251 if label.startswith("T") else 64, "errorLabels": [label]}
    fail_next(mongo, "commitTransaction", 2, error)
    read_back(server, server.upload(content, name=label)["fileId"], content)
    assert len(server.client.get("/api/files", params={"name": label}).json()["files"]) == 1


@pytest.mark.anyio
async def test_a_bulk_write_that_a_majority_did_not_confirm_is_an_error(mongo: OwnDatabase) -> None:
    async with open_database(mongo.url, "unconfirmed") as database:
        fail_next(
            mongo,
            "update",
            1,
            {"writeConcernError": {"code": 64, "errmsg": "no majority", "errInfo": {"wtimeout": True}}},
        )
        change = UpdateOne({"_id": 1}, {"$set": {"state": "live"}}, upsert=True)
        with pytest.raises(DatabaseUnavailable):
            await database["chunks"].bulk_update([change])


def test_an_upload_outlasts_the_transaction_of_a_client_that_died(server: Server, mongo: OwnDatabase) -> None:
    content = os.urandom(1000)
    server.upload(content)
    with (
        pymongo.MongoClient[dict[str, Any]](mongo.url) as client,
        transactions_end_after(client, 3),
        client.start_session() as session,
    ):
        pages = client["mini_s3"]["pages"]
        session.start_transaction()
        # A client that was killed between this and its commit never says that it gives up.
        pages.update_many({}, {"$set": {"touched": True}}, session=session)
        read_back(server, server.upload(content)["fileId"], content)
        assert pages.count_documents({"touched": True}) == 0


@pytest.mark.anyio
async def test_a_transaction_that_was_broken_off_is_ended_when_the_database_is_back(mongo: OwnDatabase) -> None:
    """Seen to fail without `killSessions`: it would stay open for a minute, and with it what it changed."""
    async with open_database(mongo.url, "forsaken") as database:

        async def work(session: Session) -> None:
            await database["chunks"].update_one({"_id": 1}, {"$set": {"state": "live"}}, upsert=True, session=session)
            mongo.pause()
            await database["chunks"].find_one({"_id": 1}, session=session)

        with pytest.raises(DatabaseUnavailable):
            await database.transaction(work)
        mongo.go_on()
        with pymongo.MongoClient[dict[str, Any]](mongo.url) as client:

            async def none_is_open() -> bool:
                return bool(client.admin.command("serverStatus")["transactions"]["currentOpen"] == 0)

            await eventually_async(none_is_open)
        assert await database["chunks"].find({}) == []
