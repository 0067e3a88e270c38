"""The main job, whole, through a real server."""

from __future__ import annotations

import os

from tests.support import Server


def test_a_file_comes_out_as_it_went_in_and_its_second_upload_stores_nothing(server: Server) -> None:
    content = os.urandom(5_000_000)
    first, second = server.upload(content), server.upload(content)
    assert first["chunks"] == {"total": 5, "new": 5, "linked": 0}
    assert second["chunks"] == {"total": 5, "new": 0, "linked": 5}
    assert second["bytes"] == {"received": len(content), "stored": 0, "saved": len(content)}
    for upload in (first, second):
        assert server.client.get(f"/api/files/{upload['fileId']}").content == content
