"""Where an edge keeps what: one directory, every name in it decided here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manifests.digests import Digest


@dataclass(frozen=True, slots=True)
class Paths:
    """Names inside an edge's directory.

    `partial`, `tmp` and `quarantine` lie beside `blobs` so that every move between them is a rename within one file
    system.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, edited by operators; its presence marks the directory as an edge."""
        return self.root / "edge.toml"

    @property
    def identity(self) -> Path:
        """The edge's own key pair and the bundle it was started from; mode 0700."""
        return self.root / "identity"

    @property
    def key(self) -> Path:
        """The edge's Ed25519 private key; mode 0600."""
        return self.identity / "key.pem"

    @property
    def bundle(self) -> Path:
        """The bundle that this edge was started from, without the private key."""
        return self.identity / "bundle.json"

    @property
    def trust(self) -> Path:
        """Verified role files, as the TUF client keeps them."""
        return self.root / "trust"

    @property
    def trust_state(self) -> Path:
        """The edge's own last verified state: catalog, expiry, floor of trusted time."""
        return self.trust / "state.json"

    @property
    def catalogs(self) -> Path:
        """Breadcrumb: the catalogs kept here, newest first; enough to rebuild the index from the disk."""
        return self.root / "catalogs.json"

    @property
    def blobs(self) -> Path:
        """Whole, proved blobs: `blobs/ab/<digest>`."""
        return self.root / "blobs"

    @property
    def partials(self) -> Path:
        """Blobs of which some pieces are proved: `partial/<digest>`."""
        return self.root / "partial"

    @property
    def tmp(self) -> Path:
        """Files being written; emptied when the store is opened for writing and nobody else has it open."""
        return self.root / "tmp"

    @property
    def quarantine(self) -> Path:
        """Files whose bytes are not what their name says, kept for a look; bounded."""
        return self.root / "quarantine"

    @property
    def index(self) -> Path:
        """SQLite: what is here and proved. Never the only record: it is rebuilt from the disk when it is lost."""
        return self.root / "index.sqlite"

    @property
    def usage(self) -> Path:
        """SQLite: what was watched when, what was pulled through, evicted, pinned; its loss costs recency only."""
        return self.root / "usage.sqlite"

    @property
    def watching(self) -> Path:
        """SQLite: what terminals watched by hour, until the province has been told; its loss costs those hours."""
        return self.root / "watching.sqlite"

    @property
    def evict_lock(self) -> Path:
        """Held by whoever evicts; not the sync's, which may be held all night."""
        return self.root / "evict.lock"

    @property
    def line(self) -> Path:
        """The measured rate of each hour of the week; not in the index, from which it could not be rebuilt."""
        return self.root / "line.json"

    @property
    def index_lock(self) -> Path:
        """Shared by those who write the index, exclusive for whoever rebuilds it."""
        return self.root / "index.lock"

    @property
    def index_suspect(self) -> Path:
        """Its presence says: damage was met in the index, rebuild it at the next opening."""
        return self.root / "index.suspect"

    @property
    def outbox(self) -> Path:
        """SQLite: reports to the province that are not received yet, and what was told last."""
        return self.root / "outbox.sqlite"

    @property
    def outbox_lock(self) -> Path:
        """Held by whoever sends reports."""
        return self.root / "outbox.lock"

    @property
    def ballast(self) -> Path:
        """Space set aside so that recalls work on a disk that something else has filled."""
        return self.root / "ballast"

    @property
    def scrubs(self) -> Path:
        """What the last scrubs came to; says whether the disk decays."""
        return self.root / "scrubs.json"

    @property
    def log(self) -> Path:
        """The access log, unless the settings name another folder."""
        return self.root / "log"

    @property
    def generation(self) -> Path:
        """Generation number of this layout."""
        return self.root / "generation"

    @property
    def sync_lock(self) -> Path:
        """Held by whoever syncs, scrubs or deletes."""
        return self.root / "sync.lock"

    def blob(self, digest: Digest) -> Path:
        """Where a whole blob lies; two digits of fan-out keep directories small."""
        return self.blobs / digest[:2] / digest

    def partial(self, digest: Digest) -> Path:
        """Where a blob lies while pieces are missing."""
        return self.partials / digest

    def make(self) -> None:
        """Create the directories that are missing.

        Raises:
            OSError: environment; the caller maps it.
        """
        for path in (self.root, self.blobs, self.partials, self.tmp, self.trust):
            path.mkdir(parents=True, exist_ok=True)
        self.identity.mkdir(mode=0o700, exist_ok=True)
