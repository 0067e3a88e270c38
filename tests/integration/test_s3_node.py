"""Nodes in buckets, on a real engine and on some that misbehave: what goes beyond `tests/conformance`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from blockbuster import blockbuster_ctx

from app.errors import BlobMissing, ConfigError, NodeError, NodeFull
from app.nodes import s3_bucket, sites
from app.nodes.base import Node, Stored
from app.nodes.identity import identify
from app.nodes.s3_bucket import Bucket
from app.nodes.s3_node import S3Node
from app.nodes.s3_site import S3Site
from app.nodes.sites import site_of
from app.types import Blob, Digest, NodeId, new_generation
from tests.s3_engine import KEYS, Engine, answering

pytestmark = pytest.mark.anyio

MIB = 1 << 20

BOUND = 20.0
"""Seconds in which a call must have given up; it does so in a fraction of a second."""

LEAKY = b"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code>
<AWSAccessKeyId>tests</AWSAccessKeyId><CanonicalRequest>x-amz-security-token:hush</CanonicalRequest></Error>"""


def answer(status: str, body: bytes = b"") -> bytes:
    head = f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\nETag: "1"\r\n'
    head += "Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def prefix() -> str:
    return f"node/{secrets.token_hex(8)}"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_bucket, "REQUEST", timedelta(seconds=0.3))
    monkeypatch.setattr(s3_bucket, "RETRY", timedelta(seconds=0.1))


def blob_for(content: bytes) -> Blob:
    return Blob(NodeId("n"), Digest(hashlib.sha256(content).digest()), new_generation())


def key_of(blob: Blob) -> str:
    return f"{blob.digest.hex()[:2]}/{blob.name}"


async def opened(url: str) -> S3Node:
    site = S3Site(url)
    await site.claim(b"{}")
    return site.open(NodeId("n"))


def calls(node: Node) -> list[Callable[[], Awaitable[object]]]:
    blob = blob_for(b"x")
    return [
        lambda: node.write(blob, b"x"),
        lambda: node.read(blob, 1),
        lambda: node.unlink([blob]),
        lambda: node.list_blobs(0),
        lambda: node.quarantine(blob),
        node.space,
    ]


# On a real engine


async def test_a_blob_lies_where_an_operator_looks_for_it(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    blob = blob_for(b"x")
    await node.write(blob, b"x")
    assert s3.get(f"{prefix}/{key_of(blob)}") == b"x"
    await node.quarantine(blob)
    assert s3.get(f"{prefix}/{key_of(blob)}") is None
    assert s3.get(f"{prefix}/quarantine/{blob.name}") == b"x"


async def test_a_bucket_without_a_prefix_and_keys(s3: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what others stored: that is refused, and said."""
    for name in KEYS:
        monkeypatch.delenv(name)
    for place in ("in-use", "in-use/by-others"):
        httpx.put(f"{s3.endpoint}/{place}", content=b"", trust_env=False).raise_for_status()
    with pytest.raises(ConfigError, match=r"neither a node nor empty \(it holds by-others"):
        await S3Site(s3.url("", bucket="in-use", anonymous="yes")).claim(b"{}")


async def test_strange_objects_are_not_listed(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    blob = blob_for(b"x")
    await node.write(blob, b"x")
    folder = blob.digest.hex()[:2]
    other = f"{blob.digest[0] ^ 1:02x}"
    for strange in (f"{folder}/README", f"{folder}/{blob.name}x", f"{folder}/sub/{blob.name}", f"{other}/{blob.name}"):
        s3.put(f"{prefix}/{strange}", b"1")
    assert await node.list_blobs(blob.digest[0]) == [Stored(blob, 1, True)]
    assert await node.list_blobs(blob.digest[0] ^ 1) == []


async def test_a_folder_of_several_pages(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    blobs = [blob_for(b"x") for _ in range(1100)]
    for start in range(0, len(blobs), 50):
        await asyncio.gather(*(node.write(blob, b"x") for blob in blobs[start : start + 50]))
    first_byte = blobs[0].digest[0]
    assert {stored.blob for stored in await node.list_blobs(first_byte)} == set(blobs)
    await node.unlink(blobs)
    assert await node.list_blobs(first_byte) == []


async def test_nothing_blocks_the_event_loop(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    content = os.urandom(MIB)
    blob = blob_for(content)
    with blockbuster_ctx():
        await node.write(blob, content)
        assert await node.read(blob, MIB) == content
        assert len(await node.list_blobs(blob.digest[0])) == 1
        await node.quarantine(blob)
        await node.unlink([blob])
        await node.space()


async def test_a_bucket_that_was_emptied_is_not_taken_for_lost_blobs(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    s3.delete(f"{prefix}/node.json")
    blob = blob_for(b"x")
    for call in (node.read(blob, 1), node.list_blobs(blob.digest[0]), node.quarantine(blob), node.space()):
        with pytest.raises(NodeError, match="Is the bucket the right one") as caught:
            await call
        assert caught.type is NodeError


async def test_a_bucket_that_is_missing_is_not_made(s3: Engine) -> None:
    url = s3.url("p", bucket="missing")
    for attempt in (S3Site(url).identity(), S3Site(url).claim(b"{}")):
        with pytest.raises(ConfigError, match=r"There is no bucket missing .* aws s3 mb s3://missing --endpoint-url"):
            await attempt
    node = S3Site(url).open(NodeId("n"))
    for call in (node.read(blob_for(b"x"), 1), node.list_blobs(0), node.unlink([blob_for(b"x")]), node.space()):
        with pytest.raises(NodeError) as caught:
            await call
        assert not isinstance(caught.value, BlobMissing)


@pytest.mark.parametrize("wrong", KEYS)
async def test_wrong_keys(s3: Engine, prefix: str, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    await opened(s3.url(prefix))
    monkeypatch.setenv(wrong, "hush")
    site = S3Site(s3.url(prefix))
    for call in (site.identity, lambda: site.claim(b"{}"), *calls(site.open(NodeId("n")))[:-1]):
        with pytest.raises(NodeError, match="Are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY right") as caught:
            await call()
        assert "hush" not in caught.value.message


async def test_no_keys(s3: Engine, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="needs credentials: set AWS_ACCESS_KEY_ID"):
        S3Site(s3.url(prefix))
    node = await opened(s3.url(prefix, anonymous="yes"))
    assert (await node.space()).free > 0


async def test_the_environment_leads_nowhere_else(s3: Engine, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = "http://127.0.0.1:1"
    strays = dict.fromkeys(("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), elsewhere)
    strays |= {"AWS_BUCKET": "other", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}
    for name, value in strays.items():
        monkeypatch.setenv(name, value)
    node = await opened(s3.url(prefix))
    blob = blob_for(b"x")
    await node.write(blob, b"x")
    assert s3.get(f"{prefix}/{key_of(blob)}") == b"x"


async def test_a_senseless_environment(s3: Engine, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "nonsense")
    with pytest.raises(ConfigError, match="variables are wrong"):
        S3Site(s3.url(prefix))


# Who a node is


async def test_sites_that_are_claimed_at_once_agree(s3: Engine, prefix: str) -> None:
    entries = await asyncio.gather(*(identify(site_of(s3.url(prefix)), "store", []) for _ in range(3)))
    assert len(set(entries)) == 1
    assert entries[0].id == f"tests-{prefix}".replace("/", "-")
    assert entries[0].location == s3.url(prefix)


async def test_whoever_comes_second_does_not_mind_what_the_first_has_stored(s3: Engine, prefix: str) -> None:
    node = await opened(s3.url(prefix))
    await node.write(blob_for(b"x"), b"x")
    assert await S3Site(s3.url(prefix)).claim(b"another") == b"{}"


async def test_foreign_objects_are_refused(s3: Engine, prefix: str) -> None:
    s3.put(f"{prefix}/letter.txt", b"Dear")
    with pytest.raises(ConfigError, match=r"neither a node nor empty \(it holds letter.txt\)"):
        await identify(site_of(s3.url(prefix)), "store", [])
    assert s3.get(f"{prefix}/node.json") is None
    s3.put(f"{prefix}/%0a", b"")
    with pytest.raises(NodeError, match="a name that can't be read"):
        await identify(site_of(s3.url(prefix)), "store", [])


async def test_a_known_bucket_that_is_empty_is_refused_whatever_its_url_says_besides(s3: Engine, prefix: str) -> None:
    entry = await identify(site_of(s3.url(prefix)), "store", [])
    s3.delete(f"{prefix}/node.json")
    for url in (s3.url(prefix), s3.url(prefix, region="eu", anonymous="yes")):
        with pytest.raises(ConfigError, match="is empty"):
            await identify(site_of(url), "store", [entry])
    assert s3.get(f"{prefix}/node.json") is None


async def test_swapped_buckets_are_refused(s3: Engine, prefix: str) -> None:
    first = await identify(site_of(s3.url(f"{prefix}/a")), "store", [])
    second = await identify(site_of(s3.url(f"{prefix}/b")), "store", [first])
    identity = s3.get(f"{prefix}/b/node.json")
    assert identity
    s3.put(f"{prefix}/a/node.json", identity)
    with pytest.raises(ConfigError, match="swapped"):
        await identify(site_of(s3.url(f"{prefix}/a")), "store", [first, second])


async def test_another_stores_bucket_is_refused(s3: Engine, prefix: str) -> None:
    await identify(site_of(s3.url(prefix)), "another store", [])
    with pytest.raises(ConfigError, match="belongs to another store"):
        await identify(site_of(s3.url(prefix)), "store", [])


def test_without_obstore_people_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="needs the extra s3"):
        site_of("s3://bucket")


# Engines that misbehave


async def test_an_engine_that_is_away(s3: Engine) -> None:
    with answering(None) as engine:
        away = engine.endpoint
    site = S3Site(s3.url("p", endpoint=away))
    for call in (site.identity, *calls(site.open(NodeId("n")))):
        async with asyncio.timeout(BOUND):
            with pytest.raises(NodeError, match="Connection refused"):
                await call()


async def test_an_engine_that_never_answers(s3: Engine, hasty: None) -> None:
    """It is asked once: a second time would make it two waits."""
    with answering(None) as engine:
        site = S3Site(s3.url("p", endpoint=engine.endpoint))
        for number, call in enumerate((site.identity, *calls(site.open(NodeId("n"))))):
            async with asyncio.timeout(BOUND):
                with pytest.raises(NodeError, match="no answer in time"):
                    await call()
            assert len(engine.asked) == number + 1


async def test_while_an_engine_does_not_answer_the_event_loop_turns(s3: Engine, hasty: None) -> None:
    """What blocks inside obstore is not seen by blockbuster."""
    with answering(None) as engine:
        for call in calls(S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))):
            waiting = asyncio.ensure_future(call())
            await asyncio.sleep(0)
            assert not waiting.done()
            with pytest.raises(NodeError):
                await waiting


async def test_a_plain_404_says_nothing_about_blobs(s3: Engine) -> None:
    with answering(answer("404 Not Found")) as engine:
        for call in calls(S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))):
            with pytest.raises(NodeError) as caught:
                await call()
            assert caught.type is NodeError


async def test_an_engine_that_fails_is_asked_a_few_times(s3: Engine) -> None:
    with answering(answer("503 Service Unavailable")) as engine:
        node = S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))
        with pytest.raises(NodeError, match="503 Service Unavailable"):
            await node.write(blob_for(b"x"), b"x")
        assert len(engine.asked) == 1 + s3_bucket.RETRIES


async def test_an_engine_that_breaks_off(s3: Engine, hasty: None) -> None:
    cut = answer("200 OK", b"12345")[:-2]
    with answering(cut) as engine:
        node = S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))
        with pytest.raises(NodeError):
            await node.read(blob_for(b"12345"), 5)


@pytest.mark.parametrize(
    ("reply", "expected", "message"),
    [
        (answer("507 Insufficient Storage"), NodeFull, "507 Insufficient Storage"),
        (answer("403 Forbidden", b"<Error><Code>QuotaExceeded</Code></Error>"), NodeFull, "QuotaExceeded"),
        (answer("500 Internal Server Error", b"oops"), NodeError, "500 Internal Server Error"),
        (answer("404 Not Found"), NodeError, "404 Not Found"),
        (answer("403 Forbidden", LEAKY), NodeError, "SignatureDoesNotMatch"),
    ],
)
async def test_what_an_engine_answers_to_a_write(
    s3: Engine, reply: bytes, expected: type[NodeError], message: str
) -> None:
    with answering(reply) as engine:
        node = S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))
        with pytest.raises(NodeError, match=message) as caught:
            await node.write(blob_for(b"x"), b"x")
        assert caught.type is expected
        assert "hush" not in caught.value.message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


async def test_a_write_is_signed_and_has_a_checksum(s3: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "sha256")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    with answering(answer("200 OK")) as engine:
        node = S3Site(s3.url("p", endpoint=engine.endpoint)).open(NodeId("n"))
        await node.write(blob_for(b"x"), b"x")
        (asked,) = engine.asked
        assert b"\r\nx-amz-checksum-crc64nvme: " in asked
        assert b"\r\nx-amz-security-token: a-token\r\n" in asked
        assert b"\r\nauthorization: AWS4-HMAC-SHA256 Credential=tests/" in asked


async def test_an_engine_that_ignores_conditions_is_refused(
    s3: Engine, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "put_new", Bucket.put)
    with pytest.raises(ConfigError, match="does not support conditional writes"):
        await S3Site(s3.url(prefix)).claim(b"{}")
    assert s3.get(f"{prefix}/node.json") is None
