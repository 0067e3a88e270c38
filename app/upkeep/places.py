"""The nodes as the registry has them, for work that moves blobs between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from app.errors import NodesUnavailable, NoSpace
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes
from app.nodes.cluster import Cluster
from app.types import Blob, Digest, NodeId


class Places:
    """What was true when `look` was called last."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._nodes = Nodes(database)
        self._cluster = cluster
        self.known: Mapping[NodeId, NodeEntry] = {}

    async def look(self) -> None:
        """Learn which nodes there are. Whoever calls this after reading a document may believe that a node
        in it that is not among these was removed. Raises DatabaseUnavailable."""
        known = {entry.id: entry for entry in await self._nodes.entries()}
        if known != self.known:
            await self._cluster.look_again()
            self.known = known

    @property
    def draining(self) -> set[NodeId]:
        """Nodes that are to be emptied."""
        return {node for node, entry in self.known.items() if entry.use == "draining"}

    @property
    def sharing(self) -> dict[NodeId, NodeEntry]:
        """Nodes that are to hold their share."""
        return {node: entry for node, entry in self.known.items() if entry.use == "active"}

    @property
    def state(self) -> dict[NodeId, bool]:
        """All that matters for what can be repaired: which nodes there are, and which of them take blobs."""
        return {node: self.takes(node) for node in self.known}

    def kept(self, blobs: Collection[Blob]) -> list[Blob]:
        """Those of the blobs that are on nodes which were not removed."""
        return [blob for blob in blobs if blob.node in self.known]

    def takes(self, node: NodeId) -> bool:
        """Whether a new blob may go there now."""
        return node in self.sharing and self._cluster.takes_writes(node)

    @property
    def by_digest(self) -> bool:
        """Whether each chunk has nodes where it belongs."""
        return self._cluster.by_digest

    def home(self, digest: Digest, count: int) -> Sequence[NodeId]:
        """The nodes where a chunk of so many blobs belongs, whether they take writes just now or not."""
        return self._cluster.home(digest, count, list(self.sharing))

    def free(self, digest: Digest, count: int, beside: Collection[NodeId]) -> list[NodeId]:
        """Up to `count` nodes for new blobs of the chunk that has some on the nodes `beside`."""
        try:
            return list(self._cluster.place(digest, count, beside=beside)) if count > 0 else []
        except (NoSpace, NodesUnavailable):
            return []
