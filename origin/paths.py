"""Where an origin keeps what: one directory, every name in it decided here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """Names inside an origin's directory.

    `staging` lies beside `blobs` so that adopting a staged file is a rename within one file system.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, edited by operators; its presence marks the directory as an origin."""
        return self.root / "origin.toml"

    @property
    def keys(self) -> Path:
        """Private keys, one file per role; root and targets may be carried elsewhere."""
        return self.root / "keys"

    @property
    def database(self) -> Path:
        """Library, versions, releases, stations."""
        return self.root / "origin.sqlite"

    @property
    def blobs(self) -> Path:
        """Blobs by digest: `blobs/ab/<digest>`."""
        return self.root / "blobs"

    @property
    def metadata(self) -> Path:
        """Signed role files as they are served."""
        return self.root / "metadata"

    @property
    def staging(self) -> Path:
        """Files being made; nothing here is ever served."""
        return self.root / "staging"

    @property
    def uploads(self) -> Path:
        """Files that people hand in, until they are published or expire: `uploads/<id>/<name>`."""
        return self.root / "uploads"

    @property
    def frames(self) -> Path:
        """Pictures of uploaded videos to choose posters from: `frames/<upload>/<number>.jpg`; may be removed."""
        return self.root / "frames"

    @property
    def couriers(self) -> Path:
        """What was packed on the disks of each series, so that the next disk goes on there."""
        return self.root / "couriers"

    @property
    def ballast(self) -> Path:
        """Space set aside for what must get through on a full disk."""
        return self.root / "ballast"

    @property
    def moved(self) -> Path:
        """Changes when the origin was moved to other settings; a running server then takes them up."""
        return self.root / "moved"

    @property
    def lock(self) -> Path:
        """Held by whoever publishes, recalls or signs."""
        return self.root / "publish.lock"

    @property
    def drafts_lock(self) -> Path:
        """Held by the process that carries out the releases of drafts."""
        return self.root / "drafts.lock"

    def make(self) -> None:
        """Create the directories that are missing.

        Raises:
            OSError: environment; the caller maps it.
        """
        for path in (self.root, self.blobs, self.metadata, self.staging):
            path.mkdir(parents=True, exist_ok=True)
        self.keys.mkdir(mode=0o700, exist_ok=True)
