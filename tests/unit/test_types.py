from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.types import CUTTING, Blob, ChunkRef, ContentName, Digest, NodeId, Page, PageId, new_generation

refs = st.builds(ChunkRef, st.binary(min_size=32, max_size=32).map(Digest), st.integers(0, 2**32 - 1))


@given(st.lists(refs, max_size=20))
def test_a_page_is_unpacked_as_it_was_packed(chunks: list[ChunkRef]) -> None:
    page = Page.of(chunks)
    packed = page.pack()
    assert len(packed) == Page.ENTRY * len(chunks)
    assert page.id == hashlib.sha256(packed).digest()
    assert Page.unpack(page.id, packed) == page
    assert page.size == sum(chunk.size for chunk in chunks)


@given(st.lists(refs, min_size=1, max_size=3), st.data())
def test_a_page_that_is_not_what_its_id_says_is_refused(chunks: list[ChunkRef], data: st.DataObject) -> None:
    page = Page.of(chunks)
    packed = bytearray(page.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1
    for wrong in (bytes(packed), page.pack()[:-1], b""):
        with pytest.raises(ValueError, match=page.id.hex()):
            Page.unpack(page.id, wrong)
    with pytest.raises(ValueError, match="does not hold"):
        Page.unpack(PageId(b"0" * 32), page.pack())


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_content_ids(contents: list[bytes]) -> None:
    digests = [Digest(hashlib.sha256(content).digest()) for content in contents]
    name = ContentName()
    for digest in digests:
        name.add(digest)
    if len(contents) < 2:
        assert name.id == hashlib.sha256(b"".join(contents)).hexdigest()
    else:
        assert name.id == hashlib.sha256(CUTTING + b"".join(digests)).hexdigest()


def test_a_blob_is_named_by_digest_and_generation() -> None:
    blob = Blob(NodeId("n"), Digest(b"\xab" * 32), new_generation())
    assert blob.name == f"{'ab' * 32}.{blob.generation}"
    assert len({new_generation() for _ in range(1000)}) == 1000
