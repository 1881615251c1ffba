"""The store against a dictionary: any sequence of acts, closings and rot leaves both in agreement."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.edge_store import PIECE, Made, flip, make_blob

from edge.paths import Paths
from edge.store.blobs import BlobStore
from manifests.digests import Digest

BLOBS = [
    make_blob(0),
    make_blob(1),
    make_blob(PIECE),
    make_blob(PIECE + 1),
    make_blob(3 * PIECE),
    make_blob(4 * PIECE - 1),
]
SMALL = [blob for blob in BLOBS if blob.ref.table is None]
LARGE = [blob for blob in BLOBS if blob.ref.table is not None]


class StoreMachine(RuleBasedStateMachine):
    """`whole` and `pieces` are the model: plain sets, no hashing, no files."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="yuanjiao-store-"))
        self.store = BlobStore.open(Paths(self.root))
        self.whole: set[Digest] = set()
        self.pieces: dict[Digest, set[int]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @rule(blob=st.sampled_from(SMALL))
    def put(self, blob: Made) -> None:
        self.store.put(blob.ref, blob.data)
        self.whole.add(blob.digest)

    @rule(blob=st.sampled_from(LARGE), data=st.data())
    def write(self, blob: Made, data: st.DataObject) -> None:
        count = len(blob.table)
        first = data.draw(st.integers(0, count - 1))
        last = data.draw(st.integers(first, count - 1))
        wrong = data.draw(st.sets(st.integers(first, last), max_size=2))
        span = b"".join(bytes(len(blob.piece(n))) if n in wrong else blob.piece(n) for n in range(first, last + 1))
        with self.store.begin(blob.ref, blob.table) as partial:
            assert partial.write_pieces(first, span) == sorted(wrong)
        if blob.digest not in self.whole:
            self.pieces.setdefault(blob.digest, set()).update(set(range(first, last + 1)) - wrong)

    @rule(blob=st.sampled_from(LARGE))
    def finish_when_complete(self, blob: Made) -> None:
        if len(self.pieces.get(blob.digest, ())) < len(blob.table):
            return
        with self.store.begin(blob.ref, blob.table) as partial:
            partial.finish()
        self.whole.add(blob.digest)
        del self.pieces[blob.digest]

    @rule(blob=st.sampled_from(LARGE))
    def rot_in_a_partial(self, blob: Made) -> None:
        for n in sorted(self.pieces.get(blob.digest, set()))[:1]:
            flip(self.store.paths.partial(blob.digest), n * PIECE)
            self.pieces[blob.digest].discard(n)

    @rule(blob=st.sampled_from(LARGE))
    def rot_in_a_blob(self, blob: Made) -> None:
        if blob.digest in self.whole:
            flip(self.store.path(blob.digest), 0)
            self.store.mark_rotten(blob.digest, [0])
            self.whole.discard(blob.digest)
            with self.store.begin(blob.ref, blob.table):
                self.pieces[blob.digest] = set(range(1, len(blob.table)))

    @rule(blob=st.sampled_from(LARGE))
    def drop(self, blob: Made) -> None:
        self.store.drop_partial(blob.digest)
        self.pieces.pop(blob.digest, None)

    @rule(blobs=st.sets(st.sampled_from(range(len(BLOBS)))))
    def delete(self, blobs: set[int]) -> None:
        doomed = {BLOBS[n].digest for n in blobs} & self.whole
        freed = sum(blob.ref.size for blob in BLOBS if blob.digest in doomed)
        assert self.store.delete(doomed) == freed
        self.whole -= doomed

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = BlobStore.open(Paths(self.root))

    @rule()
    def lose_the_index(self) -> None:
        """Whole blobs come back by their names; partials whose blob no catalog describes do not."""
        self.store.close()
        self.store.paths.index.unlink()
        self.store = BlobStore.open(Paths(self.root))
        self.pieces.clear()

    @invariant()
    def agree(self) -> None:
        assert self.store.digests() == self.whole
        for blob in BLOBS:
            here = blob.digest in self.whole
            assert self.store.has(blob.digest) == here
            assert self.store.size(blob.digest) == (blob.ref.size if here else None)
            if here:
                assert self.store.load(blob.digest) == blob.data
            elif blob.digest in self.pieces:
                with self.store.begin(blob.ref, blob.table) as partial:
                    assert set(range(len(blob.table))) - set(partial.missing()) == self.pieces[blob.digest]


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
