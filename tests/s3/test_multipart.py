"""Multipart uploads, from their beginning to the object that they become, or to nothing."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.streams.sums import composite
from tests.s3.conftest import ROOT, client_of
from tests.s3.test_put import DIGESTS, body_of, text
from tests.s3.wire import code_in, error, send
from tests.support import Databases, Server

MIN = 5 << 20


class Upload:
    """An upload of "a"; what is done with it is done by one client."""

    def __init__(self, client: Any, bucket: str, key: str = "a", **options: Any) -> None:
        self.client = client
        self.begun = client.create_multipart_upload(Bucket=bucket, Key=key, **options)
        self.where = {"Bucket": bucket, "Key": key, "UploadId": self.begun["UploadId"]}
        self.parts: dict[int, dict[str, Any]] = {}

    def put(self, number: int, data: bytes, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.upload_part(**self.where, PartNumber=number, Body=data, **options)
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return answer

    def complete(self, *numbers: int, **options: Any) -> dict[str, Any]:
        chosen = [self.parts[number] for number in numbers or sorted(self.parts)]
        answer: dict[str, Any] = self.client.complete_multipart_upload(
            **self.where, MultipartUpload={"Parts": chosen}, **options
        )
        return answer

    def numbers(self, **options: Any) -> list[int]:
        return [part["PartNumber"] for part in self.client.list_parts(**self.where, **options).get("Parts", ())]


def data_of(seed: int, size: int = MIN) -> bytes:
    return random.Random(seed).randbytes(size)


def etag_of(*parts: bytes) -> str:
    digest = composite("md5", [hashlib.md5(part).digest() for part in parts])
    return f'"{digest.hex()}-{len(parts)}"'


def test_parts_in_any_order(client: Any, bucket: str) -> None:
    upload, parts = Upload(client, bucket), [data_of(1), data_of(2, MIN + 12345), b"x"]
    for number in (7, 2, 10_000):
        upload.put(number, parts[(2, 7, 10_000).index(number)])
    done = upload.complete()
    assert done["ETag"] == etag_of(*parts)
    assert (done["Bucket"], done["Key"]) == (bucket, "a")
    assert body_of(client, bucket, "a") == b"".join(parts)
    head = client.head_object(Bucket=bucket, Key="a", PartNumber=7)
    assert (head["PartsCount"], head["ContentLength"]) == (3, len(parts[1]))


def test_what_the_object_is_to_be_is_said_at_the_beginning(client: Any, bucket: str) -> None:
    options = {"ContentType": "text/plain", "Metadata": {"one": "1"}, "Tagging": "a=b", "CacheControl": "no-store"}
    upload = Upload(client, bucket, **options)
    upload.put(1, b"abc")
    upload.complete()
    head = client.head_object(Bucket=bucket, Key="a")
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == ("text/plain", {"one": "1"}, "no-store")
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_a_part_is_replaced(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, data_of(3))
    first = upload.parts[1]
    upload.put(1, data_of(4))
    upload.put(2, b"end")
    upload.parts[1], second = first, upload.parts[1]
    with error("InvalidPart", 400):
        upload.complete()
    upload.parts[1] = second
    upload.complete()
    assert body_of(client, bucket, "a") == data_of(4) + b"end"


def test_parts_that_are_not_named_go(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    for number in (1, 2, 3):
        upload.put(number, data_of(number))
    upload.complete(1, 3)
    assert body_of(client, bucket, "a") == data_of(1) + data_of(3)


def test_many_parts_at_the_same_time(s3_server: Server, client: Any, bucket: str) -> None:
    upload, clients = Upload(client, bucket), [client_of(s3_server) for _ in range(8)]

    def put(number: int) -> None:
        answer = clients[number % 8].upload_part(**upload.where, PartNumber=number, Body=data_of(number))
        upload.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1, 13)))
    upload.complete()
    assert body_of(client, bucket, "a") == b"".join(map(data_of, range(1, 13)))


def test_parts_that_are_too_small(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, data_of(1, MIN - 1))
    upload.put(2, b"end")
    with error("EntityTooSmall", 400):
        upload.complete()
    upload.complete(1)
    assert client.head_object(Bucket=bucket, Key="a")["ContentLength"] == MIN - 1


def test_lists_that_are_refused(s3_server: Server, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, data_of(1))
    upload.put(2, b"end")
    with error("InvalidPartOrder", 400):
        upload.complete(2, 1)
    with error("InvalidPartOrder", 400):
        upload.complete(1, 1)
    upload.parts[3] = {"PartNumber": 3, "ETag": upload.parts[1]["ETag"]}
    with error("InvalidPart", 400):
        upload.complete()
    for document in ("", "<CompleteMultipartUpload/>", "<CompleteMultipartUpload><Part/></CompleteMultipartUpload>"):
        target = f"POST /{bucket}/a?uploadId={upload.where['UploadId']}"
        assert code_in(send(s3_server, target, document.encode())) == "MalformedXML"
    assert upload.numbers() == [1, 2]


@pytest.mark.parametrize("number", ["0", "10001", "x", "-1", ""])
def test_numbers_of_parts(s3_server: Server, client: Any, bucket: str, number: str) -> None:
    upload = Upload(client, bucket)
    target = f"PUT /{bucket}/a?partNumber={number}&uploadId={upload.where['UploadId']}"
    answer = send(s3_server, target, b"abc")
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


def test_the_size_is_compared(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"abc")
    with error("InvalidRequest", 400):
        upload.complete(MpuObjectSize=4)
    upload.complete(MpuObjectSize=3)


def test_uploads_that_there_are_not(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"abc")
    for changed in ({"UploadId": "0" * 24}, {"UploadId": "nonsense"}, {"Key": "b"}):
        where = upload.where | changed
        with error("NoSuchUpload", 404):
            client.upload_part(**where, PartNumber=1, Body=b"")
        with error("NoSuchUpload", 404):
            client.list_parts(**where)
        with error("NoSuchUpload", 404):
            client.complete_multipart_upload(**where, MultipartUpload={"Parts": [upload.parts[1]]})
        with error("NoSuchUpload", 404):
            client.abort_multipart_upload(**where)


def test_an_upload_that_is_given_up(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"abc")
    assert client.abort_multipart_upload(**upload.where)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("NoSuchUpload", 404):
        upload.put(2, b"abc")
    with error("NoSuchUpload", 404):
        upload.complete(1)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    with error("NoSuchKey", 404):
        client.get_object(Bucket=bucket, Key="a")


def test_what_was_given_up_is_free_again(databases: Databases, s3_server: Server, client: Any, bucket: str) -> None:
    def held() -> int:
        with databases.client() as mongo:
            database = mongo[s3_server.mongo_database]
            return database["upload_parts"].count_documents({}) + database["pages"].count_documents(
                {"refs": {"$gt": 0}}
            )

    before = held()
    upload = Upload(client, bucket)
    upload.put(1, data_of(99))
    assert held() == before + 2
    client.abort_multipart_upload(**upload.where)
    assert held() == before


def test_completed_twice(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, data_of(1))
    upload.put(2, b"end")
    first = upload.complete()
    assert first["Location"] == f"{client.meta.endpoint_url}/{bucket}/a"
    again = upload.complete()
    assert {name: again[name] for name in ("ETag", "Location", "ChecksumType")} == {
        name: first[name] for name in ("ETag", "Location", "ChecksumType")
    }
    with error("InvalidPart", 400):
        upload.complete(1)
    with error("NoSuchUpload", 404):
        upload.put(3, b"abc")
    client.put_object(Bucket=bucket, Key="a", Body=b"another")
    with error("NoSuchUpload", 404):
        upload.complete()
    assert body_of(client, bucket, "a") == b"another"


def test_completed_by_several_at_once(s3_server: Server, client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    upload, clients = Upload(client, bucket), [client_of(s3_server) for _ in range(8)]
    upload.put(1, b"abc")
    chosen = {"Parts": list(upload.parts.values())}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda one: one.complete_multipart_upload(**upload.where, MultipartUpload=chosen), clients)
        )
    assert len({(answer["ETag"], answer["VersionId"]) for answer in answers}) == 1
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 1


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("kind", ["FULL_OBJECT", "COMPOSITE"])
def test_checksums(client: Any, bucket: str, name: str, kind: str) -> None:
    options = {"ChecksumAlgorithm": name, "ChecksumType": kind}
    if (name in ("SHA1", "SHA256") and kind == "FULL_OBJECT") or (name == "CRC64NVME" and kind == "COMPOSITE"):
        with error("InvalidRequest", 400):
            Upload(client, bucket, **options)
        return
    upload, parts = Upload(client, bucket, **options), [data_of(1), data_of(2, MIN + 77), b"end"]
    assert (upload.begun["ChecksumAlgorithm"], upload.begun["ChecksumType"]) == (name, kind)
    element, digest = f"Checksum{name}", DIGESTS[name]
    for number, part in enumerate(parts, 1):
        answer = upload.put(number, part, ChecksumAlgorithm=name)
        assert answer[element] == text(digest(part))
        upload.parts[number][element] = answer[element]
    expected = text(digest(b"".join(map(digest, parts)))) + "-3"
    if kind == "FULL_OBJECT":
        expected = text(digest(b"".join(parts)))
    with error("BadDigest", 400):
        upload.complete(**{element: text(digest(b"other"))})
    done = upload.complete(**{element: expected}, ChecksumType=kind)
    assert (done[element], done["ChecksumType"]) == (expected, kind)
    head = client.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert (head[element], head["ChecksumType"]) == (expected, kind)


def test_wrong_checksums_of_parts(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, ChecksumAlgorithm="SHA256")
    with error("BadDigest", 400):
        upload.put(1, b"abc", ChecksumSHA256=text(DIGESTS["SHA256"](b"abd")))
    with error("InvalidRequest", 400):
        upload.put(1, b"abc", ChecksumSHA1=text(DIGESTS["SHA1"](b"abc")))
    upload.put(1, b"abc", ChecksumAlgorithm="SHA256")
    upload.parts[1]["ChecksumSHA256"] = text(DIGESTS["SHA256"](b"abd"))
    with error("InvalidPart", 400):
        upload.complete()


def test_without_an_algorithm(client: Any, bucket: str) -> None:
    """The object has the default checksum, by whatever its parts were summed up."""
    upload = Upload(client, bucket)
    upload.put(1, data_of(1), ChecksumAlgorithm="SHA1")
    upload.put(2, b"end", ChecksumAlgorithm="CRC32")
    upload.complete()
    head = client.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == text(DIGESTS["CRC64NVME"](data_of(1) + b"end"))


def test_lists_of_parts(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, StorageClass="GLACIER", ChecksumAlgorithm="CRC32C")
    for number in (5, 1, 3):
        upload.put(number, b"%d" % number, ChecksumAlgorithm="CRC32C")
    listed = client.list_parts(**upload.where)
    assert (listed["StorageClass"], listed["ChecksumAlgorithm"], listed["ChecksumType"], listed["IsTruncated"]) == (
        "GLACIER",
        "CRC32C",
        "COMPOSITE",
        False,
    )
    assert listed["Owner"]["ID"] == "local"
    part = listed["Parts"][1]
    assert (part["PartNumber"], part["Size"], part["ETag"]) == (3, 1, upload.parts[3]["ETag"])
    assert part["ChecksumCRC32C"] == text(DIGESTS["CRC32C"](b"3"))
    page = client.list_parts(**upload.where, MaxParts=2)
    assert ([one["PartNumber"] for one in page["Parts"]], page["IsTruncated"]) == ([1, 3], True)
    assert upload.numbers(PartNumberMarker=page["NextPartNumberMarker"]) == [5]
    assert upload.numbers(MaxParts=3) == [1, 3, 5]
    assert upload.numbers(MaxParts=0) == []
    with error("InvalidArgument", 400):
        upload.numbers(MaxParts=-1)


def listed_uploads(client: Any, bucket: str, **options: Any) -> tuple[list[tuple[str, str]], list[str], Any]:
    answer = client.list_multipart_uploads(Bucket=bucket, **options)
    uploads = [(one["Key"], one["UploadId"]) for one in answer.get("Uploads", ())]
    return uploads, [one["Prefix"] for one in answer.get("CommonPrefixes", ())], answer


def test_lists_of_uploads(client: Any, bucket: str) -> None:
    keys = ["b/1", "a", "b/2", "a", "c", "b/1", "b", "😀 d"]
    made = sorted((key, Upload(client, bucket, key).where["UploadId"]) for key in keys)
    uploads, _, answer = listed_uploads(client, bucket)
    assert uploads == made
    assert answer["IsTruncated"] is False
    found, options = [], {"MaxUploads": 1}
    for _ in range(10):
        uploads, _, answer = listed_uploads(client, bucket, **options)
        found += uploads
        if not answer["IsTruncated"]:
            break
        options |= {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
    assert found == made
    assert listed_uploads(client, bucket, KeyMarker="b/1")[0] == [one for one in made if one[0] > "b/1"]
    assert listed_uploads(client, bucket, Prefix="b/")[0] == [one for one in made if one[0].startswith("b/")]
    uploads, prefixes, _ = listed_uploads(client, bucket, Delimiter="/")
    assert (uploads, prefixes) == ([one for one in made if "/" not in one[0]], ["b/"])
    _, prefixes, answer = listed_uploads(client, bucket, Delimiter="/", MaxUploads=4)
    assert (prefixes, answer["NextKeyMarker"]) == (["b/"], "b/")
    rest = listed_uploads(client, bucket, Delimiter="/", KeyMarker="b/")
    assert ([key for key, _ in rest[0]], rest[1]) == (["c", "😀 d"], [])
    encoded, _, answer = listed_uploads(client, bucket, EncodingType="url", Prefix="😀")
    assert (encoded[0][0], answer["Prefix"]) == ("%F0%9F%98%80%20d", "%F0%9F%98%80")
    with error("InvalidArgument", 400):
        listed_uploads(client, bucket, EncodingType="base64")
    with error("InvalidArgument", 400):
        listed_uploads(client, bucket, KeyMarker="a", UploadIdMarker="nonsense")


def test_completed_uploads_are_not_listed(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"abc")
    upload.complete()
    assert listed_uploads(client, bucket)[0] == []


def test_parts_are_copied(client: Any, bucket: str) -> None:
    data = data_of(8, 2 * MIN + 333)
    client.put_object(Bucket=bucket, Key="source", Body=data)
    upload = Upload(client, bucket)
    ranges = [f"bytes=0-{MIN + 99}", f"bytes={MIN + 100}-{len(data) - 1}"]
    for number, wanted in enumerate(ranges, 1):
        answer = client.upload_part_copy(
            **upload.where, PartNumber=number, CopySource=f"{bucket}/source", CopySourceRange=wanted
        )
        upload.parts[number] = {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}
    answer = client.upload_part_copy(**upload.where, PartNumber=3, CopySource=f"{bucket}/source")
    upload.parts[3] = {"PartNumber": 3, "ETag": answer["CopyPartResult"]["ETag"]}
    assert answer["CopyPartResult"]["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    client.delete_object(Bucket=bucket, Key="source")
    done = upload.complete()
    assert done["ETag"] == etag_of(data[: MIN + 100], data[MIN + 100 :], data)
    assert body_of(client, bucket, "a") == data + data
    assert done["ChecksumCRC64NVME"] == text(DIGESTS["CRC64NVME"](data + data))


def test_a_whole_object_becomes_a_part_without_new_chunks(s3_server: Server, client: Any, bucket: str) -> None:
    """Also where its parts were cut elsewhere than an upload of the same bytes would be."""

    def chunks() -> int:
        count: int = s3_server.client.get("/api/stats", auth=ROOT).json()["chunks"]
        return count

    parts, source = [data_of(21, MIN + 7), data_of(22, 2_000_003)], Upload(client, bucket, "source")
    for number, part in enumerate(parts, 1):
        source.put(number, part)
    source.complete()
    before, upload = chunks(), Upload(client, bucket)
    for number in (1, 2):
        answer = client.upload_part_copy(**upload.where, PartNumber=number, CopySource=f"{bucket}/source")
        upload.parts[number] = {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}
        assert upload.parts[number]["ETag"] == f'"{hashlib.md5(b"".join(parts)).hexdigest()}"'
    assert chunks() == before
    client.delete_object(Bucket=bucket, Key="source")
    upload.complete()
    assert body_of(client, bucket, "a") == b"".join(parts) * 2


@pytest.mark.parametrize("wanted", ["bytes=0-3", "bytes=2-1", "bytes=1-", "bytes=-1", "0-1", "bytes=0-1,2-2"])
def test_ranges_that_are_none(client: Any, bucket: str, wanted: str) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=b"abc")
    upload = Upload(client, bucket)
    with error("InvalidArgument", 400):
        client.upload_part_copy(**upload.where, PartNumber=1, CopySource=f"{bucket}/source", CopySourceRange=wanted)


def test_parts_are_copied_on_condition(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=b"abc")
    upload = Upload(client, bucket)
    with error("PreconditionFailed", 412):
        client.upload_part_copy(**upload.where, PartNumber=1, CopySource=f"{bucket}/source", CopySourceIfMatch="0" * 32)


def test_a_copy_of_an_object_of_parts(client: Any, bucket: str) -> None:
    """It stays one, since no byte of it is read."""
    upload = Upload(client, bucket, ChecksumAlgorithm="SHA256")
    upload.put(1, data_of(1), ChecksumAlgorithm="SHA256")
    upload.put(2, b"end", ChecksumAlgorithm="SHA256")
    done = upload.complete()
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/a")
    head = client.head_object(Bucket=bucket, Key="copy", PartNumber=2, ChecksumMode="ENABLED")
    assert (head["ETag"], head["PartsCount"]) == (done["ETag"], 2)
    copied = client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/a", ChecksumAlgorithm="CRC32")
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(data_of(1) + b"end").hexdigest()}"'


def test_the_bucket_is_not_deleted_under_an_object(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"abc")
    client.delete_bucket(Bucket=bucket)
    with error("NoSuchBucket", 404):
        upload.complete()


def test_uploads_end_with_their_bucket(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    client.delete_bucket(Bucket=bucket)
    client.create_bucket(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    with error("NoSuchUpload", 404):
        upload.put(2, b"x")
    with error("NoSuchUpload", 404):
        upload.complete()


def test_the_native_api_sees_it(s3_server: Server, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, "native/of parts.bin")
    upload.put(1, data_of(11))
    upload.put(2, b"end")
    upload.complete()
    files = s3_server.client.get("/api/files", params={"name": "of parts.bin"}, auth=ROOT).json()["files"]
    (found,) = [file for file in files if file["name"] == "of parts.bin"]
    assert s3_server.client.get(f"/api/files/{found['id']}", auth=ROOT).content == data_of(11) + b"end"
