"""What the API tells of uploads. Sending their bytes is tus 1.0.0 at the same address, see the README."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from origin.web.api.models import Where

UploadIdText = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]


class ByUpload(Where, frozen=True):
    """One upload by its id."""

    id: UploadIdText


class UploadFinding(Struct, frozen=True):
    """What was found in a file. `plays`: as it is; else it is converted when it is published, for the reason told."""

    kind: str
    media_type: str
    duration_s: float
    width: int
    height: int
    plays: bool
    reason: str
    reason_zh: str


class UploadRow(Struct, frozen=True):
    """One upload: `receiving` until all bytes are here, `checking`, then `ready` or `refused` with the reason.

    `sha256` is that of all bytes. `expires`: when it is given up unless something comes or a draft uses it.
    """

    id: str
    name: str
    size_bytes: int
    received_bytes: int
    state: Literal["receiving", "checking", "ready", "refused"]
    sha256: str | None
    finding: UploadFinding | None
    reason: str
    reason_zh: str
    created: str
    expires: str
    in_use: bool


class UploadList(Struct, frozen=True):
    """One's own uploads, newest first, and what one's quota leaves."""

    uploads: tuple[UploadRow, ...]
    held_bytes: int
    quota_bytes: int
    file_bytes: int
