"""Clients as people have them on their machines, unchanged, against a server of its own process."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import boto3
import fsspec.asyn
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest
import s3fs
from boto3.s3.transfer import TransferConfig
from minio import Minio

from tests.clients.tools import MIB, Stock, contents, keys_in
from tests.s3.conftest import ROOT, client_of


def test_aws_s3_sync_both_ways(stock: Stock, tree: Path) -> None:
    stock.aws("s3", "sync", tree, stock.url + "/t", "--no-progress")
    stock.aws("s3", "sync", stock.url + "/t", stock.home / "back", "--no-progress")
    assert contents(stock.home / "back") == contents(tree)
    assert stock.aws("s3", "sync", tree, stock.url + "/t").strip() == ""
    (tree / "empty").unlink()
    (tree / "deep/er.txt").write_text("changed, and longer than it was" * 2000)
    stock.aws("s3", "sync", "--delete", tree, stock.url + "/t")
    stock.aws("s3", "sync", "--delete", stock.url + "/t", stock.home / "back")
    assert contents(stock.home / "back") == contents(tree)
    stock.aws("s3", "mv", stock.url + "/t/large", stock.url + "/moved")
    assert sorted(stock.aws("s3", "ls", stock.url).split())[-2:] == ["moved", "t/"]
    stock.aws("s3", "rb", "--force", stock.url)
    assert stock.bucket not in stock.aws("s3", "ls")


def test_aws_s3api(stock: Stock, tmp_path: Path) -> None:
    body, bucket = tmp_path / "body", ("--bucket", stock.bucket)
    body.write_bytes(b"some bytes")

    def api(*words: object) -> Any:
        said = stock.aws("s3api", words[0], *bucket, *words[1:], "--output", "json")
        return json.loads(said) if said.strip() else {}

    api("put-bucket-versioning", "--versioning-configuration", "Status=Enabled")
    put = api("put-object", "--key", "a b", "--body", body, "--checksum-algorithm", "SHA256", "--metadata", "x=y")
    assert put["ETag"] == f'"{hashlib.md5(b"some bytes").hexdigest()}"'
    head = api("head-object", "--key", "a b", "--checksum-mode", "ENABLED")
    assert (head["ChecksumSHA256"], head["Metadata"], head["VersionId"]) == (
        put["ChecksumSHA256"],
        {"x": "y"},
        put["VersionId"],
    )
    got = api("get-object", "--key", "a b", "--range", "bytes=5-", tmp_path / "got")
    assert (got["ContentRange"], (tmp_path / "got").read_bytes()) == ("bytes 5-9/10", b"bytes")
    marker = api("delete-object", "--key", "a b")
    assert marker["DeleteMarker"] is True
    listed = api("list-object-versions")
    assert [one["VersionId"] for one in listed["Versions"]] == [put["VersionId"]]
    assert [one["VersionId"] for one in listed["DeleteMarkers"]] == [marker["VersionId"]]


def test_rclone(stock: Stock, tree: Path) -> None:
    rclone, there = stock.program("rclone"), f"store:{stock.bucket}/t"
    stock.run(rclone, "sync", tree, there)
    stock.run(rclone, "check", "--download", tree, there)
    (tree / "many/1").unlink()
    stock.run(rclone, "sync", tree, there)
    stock.run(rclone, "check", tree, there)
    large = tree / "large"
    large.write_bytes(random.Random(2).randbytes(17 * MIB + 3))
    stock.run(rclone, "copy", "--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "5Mi", large, there)
    stock.run(rclone, "copy", there, stock.home / "back")
    assert contents(stock.home / "back") == contents(tree)
    stock.run(rclone, "moveto", there + "/large", there + "/moved")
    stock.run(rclone, "purge", f"store:{stock.bucket}")


def test_s3cmd(stock: Stock, tree: Path) -> None:
    host = stock.server.s3_url.removeprefix("http://")
    (stock.home / "s3cfg").write_text(
        f"[default]\naccess_key = {ROOT[0]}\nsecret_key = {ROOT[1]}\nhost_base = {host}\nhost_bucket = {host}\n"
        "use_https = False\nbucket_location = us-east-1\nmultipart_chunk_size_mb = 5\n"
    )
    s3cmd = (stock.program("s3cmd"), "-c", stock.home / "s3cfg", "--no-progress")
    stock.run(*s3cmd, "sync", f"{tree}/", stock.url + "/t/")
    stock.run(*s3cmd, "sync", stock.url + "/t/", f"{stock.home}/back/")
    assert contents(stock.home / "back") == contents(tree)
    assert "9437185" in stock.run(*s3cmd, "info", stock.url + "/t/large")
    stock.run(*s3cmd, "cp", stock.url + "/t/large", stock.url + "/copy")
    stock.run(*s3cmd, "rb", "--recursive", "--force", stock.url)


def test_restic(stock: Stock, tree: Path) -> None:
    restic = (stock.program("restic"), "--no-cache")
    stock.run(*restic, "init")
    stock.run(*restic, "backup", tree)
    before = contents(tree)
    (tree / "large").write_bytes(random.Random(3).randbytes(3 * MIB))
    (tree / "many/2").unlink()
    stock.run(*restic, "backup", tree)
    stock.run(*restic, "check", "--read-data")
    snapshots = json.loads(stock.run(*restic, "snapshots", "--json"))
    stock.run(*restic, "restore", snapshots[0]["id"], "--target", stock.home / "first")
    assert contents(stock.home / "first" / tree.relative_to("/")) == before
    stock.run(*restic, "forget", "--keep-last", "1", "--prune")
    stock.run(*restic, "check", "--read-data")
    stock.run(*restic, "restore", "latest", "--target", stock.home / "last")
    assert contents(stock.home / "last" / tree.relative_to("/")) == contents(tree)


def test_minio_py(stock: Stock, tmp_path: Path) -> None:
    client = Minio(
        stock.server.s3_url.removeprefix("http://"),
        access_key=ROOT[0],
        secret_key=ROOT[1],
        secure=False,
        region="us-east-1",
    )
    body = tmp_path / "body"
    body.write_bytes(random.Random(4).randbytes(12 * MIB + 5))
    made = client.fput_object(stock.bucket, "a/b ü", str(body), part_size=5 * MIB, metadata={"colour": "blue"})
    assert made.etag.endswith("-3")
    client.fget_object(stock.bucket, "a/b ü", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == body.read_bytes()
    stat = client.stat_object(stock.bucket, "a/b ü")
    assert (stat.size, stat.metadata["x-amz-meta-colour"]) == (12 * MIB + 5, "blue")
    assert [one.object_name for one in client.list_objects(stock.bucket)] == ["a/"]
    assert [one.object_name for one in client.list_objects(stock.bucket, recursive=True)] == ["a/b ü"]
    client.remove_object(stock.bucket, "a/b ü")
    client.remove_bucket(stock.bucket)
    assert not client.bucket_exists(stock.bucket)


def test_parquet_by_arrow(stock: Stock) -> None:
    files = pyarrow.fs.S3FileSystem(
        access_key=ROOT[0],
        secret_key=ROOT[1],
        region="us-east-1",
        scheme="http",
        endpoint_override=stock.server.s3_url.removeprefix("http://"),
    )
    rng = random.Random(5)
    table = pa.table({"n": range(200_000), "x": [rng.random() for _ in range(200_000)], "part": [0, 1, 2, 3] * 50_000})
    pyarrow.parquet.write_table(table, f"{stock.bucket}/one.parquet", filesystem=files)
    assert pyarrow.parquet.read_table(f"{stock.bucket}/one.parquet", filesystem=files) == table
    pyarrow.parquet.write_to_dataset(table, f"{stock.bucket}/many", partition_cols=["part"], filesystem=files)
    some = pyarrow.parquet.read_table(f"{stock.bucket}/many", filesystem=files, filters=[("part", "=", 2)])
    assert some["n"].to_pylist() == list(range(2, 200_000, 4))
    found = files.get_file_info(pyarrow.fs.FileSelector(stock.bucket, recursive=True))
    assert {one.base_name for one in found} >= {"one.parquet", "many", "part=0", "part=3"}
    files.delete_dir(f"{stock.bucket}/many")
    assert keys_in(client_of(stock.server), stock.bucket, "many/0") == []


def test_parquet_by_s3fs(stock: Stock) -> None:
    files = s3fs.S3FileSystem(
        key=ROOT[0], secret=ROOT[1], endpoint_url=stock.server.s3_url, skip_instance_cache=True, asynchronous=False
    )
    rng = random.Random(7)
    table = pa.table({"n": range(300_000), "x": [rng.random() for _ in range(300_000)], "part": [0, 1, 2] * 100_000})
    pyarrow.parquet.write_to_dataset(table, f"{stock.bucket}/many", partition_cols=["part"], filesystem=files)
    some = pyarrow.parquet.read_table(f"{stock.bucket}/many", filesystem=files, filters=[("part", "=", 1)])
    assert some["n"].to_pylist() == list(range(1, 300_000, 3))
    content = rng.randbytes(12 * MIB)
    with files.open(f"{stock.bucket}/large", "wb", block_size=5 * MIB) as large:
        large.write(content)
    with files.open(f"{stock.bucket}/large", "rb", block_size=1 * MIB) as large:
        large.seek(7 * MIB)
        assert large.read(100) == content[7 * MIB :][:100]
    files.mv(f"{stock.bucket}/large", f"{stock.bucket}/moved")
    assert files.cat(f"{stock.bucket}/moved") == content
    assert {path.rpartition("/")[2] for path in files.ls(stock.bucket)} == {"many", "moved"}
    assert len(files.glob(f"{stock.bucket}/many/part=*/*.parquet")) == 3
    files.rm(f"{stock.bucket}/many", recursive=True)
    assert files.find(stock.bucket) == [f"{stock.bucket}/moved"]
    # By itself, when it is collected as garbage, it would give its connections a tenth of a second to close.
    fsspec.asyn.sync(files.loop, files._s3creator.__aexit__, None, None, None)


@pytest.mark.parametrize("calculation", ["when_supported", "when_required"])
def test_boto3_transfers(stock: Stock, tmp_path: Path, calculation: str) -> None:
    client = client_of(stock.server, request_checksum_calculation=calculation)
    body = tmp_path / "body"
    body.write_bytes(random.Random(6).randbytes(40 * MIB))
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    client.upload_file(str(body), stock.bucket, "k", Config=config)
    client.download_file(stock.bucket, "k", str(tmp_path / "back"), Config=config)
    assert (tmp_path / "back").read_bytes() == body.read_bytes()
    client.copy({"Bucket": stock.bucket, "Key": "k"}, stock.bucket, "copy", Config=config)
    assert client.head_object(Bucket=stock.bucket, Key="copy")["ContentLength"] == 40 * MIB
    resource = boto3.resource(
        "s3",
        endpoint_url=stock.server.s3_url,
        aws_access_key_id=ROOT[0],
        aws_secret_access_key=ROOT[1],
        region_name="us-east-1",
    )
    resource.Bucket(stock.bucket).objects.all().delete()
    assert keys_in(client, stock.bucket) == []
