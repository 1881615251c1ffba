"""Putting a file into an object store so that a killed upload goes on where it was.

A blob's key is its digest, so whatever is under way for a key is an upload of these very bytes: it is found again by
listing, its parts are checked against the file, and only those that lack are sent. Two that upload the same blob at the
same time share the parts; the one that comes last finds the object there. Blocking; runs on a thread of `Calls`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from manifests.errors import ObjectStorageError, StorageError
from origin.storage.faults import storage_faults
from origin.storage.s3_client import LEAST_PART_BYTES, MOST_PARTS, S3Options, code_of, is_absent

_TRIES: Final = 3  # another process may finish or give up the upload that we joined
_MOST_LISTED: Final = 100_000


def part_size(size: int, wanted: int) -> int:
    """Bytes of each part but the last, so that a blob of `size` bytes has few enough of them."""
    return max(wanted, LEAST_PART_BYTES, -(-size // MOST_PARTS))


def size_of(client: Any, options: S3Options, key: str) -> int | None:
    """Length of an object, None when there is none."""
    from botocore.exceptions import ClientError

    try:
        return int(client.head_object(Bucket=options.bucket, Key=key)["ContentLength"])
    except ClientError as error:
        if is_absent(error):
            return None
        raise


def upload(client: Any, options: S3Options, key: str, fd: int, size: int, stop: threading.Event) -> None:
    """Store a file's bytes under a key; what is there already at its full length is left alone.

    Args:
        client: from `connect`.
        options: where to.
        key: holds the digest of these bytes.
        fd: the file, open for reading.
        size: its length in bytes.
        stop: set when nobody waits any more; the upload is left to be gone on with.

    Raises:
        ObjectStorageError: environment; what was sent has not arrived whole, or it was stopped.
        StorageError: environment; the file cannot be read.
    """
    if size_of(client, options, key) == size:
        return
    if size <= part_size(size, options.part_bytes):
        client.put_object(Bucket=options.bucket, Key=key, Body=_portion(fd, 0, size))
    else:
        _upload_parts(client, options, key, fd, size, stop)
    got = size_of(client, options, key)
    if got != size:
        raise ObjectStorageError(
            f"{key} has {got} bytes in the object store instead of {size}",
            zh=f"对象存储中 {key} 的长度为 {got}，应为 {size}",
        )


def give_up_stale(client: Any, options: S3Options, now: datetime | None = None) -> int:
    """Give up uploads below the prefix that were begun too long ago; their parts are paid for. Returns how many."""
    before = (now or datetime.now(UTC)) - timedelta(days=options.stale_days)
    stale = [one for one in _uploads(client, options, options.prefix) if one["Initiated"] < before]
    for one in stale:
        client.abort_multipart_upload(Bucket=options.bucket, Key=one["Key"], UploadId=one["UploadId"])
    return len(stale)


def _upload_parts(client: Any, options: S3Options, key: str, fd: int, size: int, stop: threading.Event) -> None:
    from botocore.exceptions import ClientError

    for last in (False,) * (_TRIES - 1) + (True,):
        upload_id = _begun(client, options, key)
        try:
            parts = list(_send_parts(client, options, key, upload_id, fd, size, stop))
            client.complete_multipart_upload(
                Bucket=options.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        except ClientError as error:
            if code_of(error) not in {"NoSuchUpload", "InvalidPart", "404"} or last:
                raise
            if size_of(client, options, key) == size:
                return  # whoever shared the upload has completed it
        else:
            return


def _begun(client: Any, options: S3Options, key: str) -> str:
    begun = [one for one in _uploads(client, options, key) if one["Key"] == key]
    if begun:
        return str(max(begun, key=lambda one: one["Initiated"])["UploadId"])
    return str(client.create_multipart_upload(Bucket=options.bucket, Key=key)["UploadId"])


def _uploads(client: Any, options: S3Options, prefix: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=options.bucket, Prefix=prefix, PaginationConfig={"MaxItems": _MOST_LISTED}
    )
    for page in pages:
        yield from page.get("Uploads", ())


def _send_parts(
    client: Any, options: S3Options, key: str, upload_id: str, fd: int, size: int, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """Send what lacks; every part in order, as completing wants them."""
    where = {"Bucket": options.bucket, "Key": key, "UploadId": upload_id}
    pages = client.get_paginator("list_parts").paginate(**where, PaginationConfig={"MaxItems": MOST_PARTS})
    there = {int(part["PartNumber"]): part for page in pages for part in page.get("Parts", ())}
    step = part_size(size, options.part_bytes)
    for number, start in enumerate(range(0, size, step), start=1):
        if stop.is_set():
            raise ObjectStorageError(f"uploading {key} was stopped", zh=f"{key} 的上传已中止")
        data = _portion(fd, start, min(step, size - start))
        part = there.get(number)
        if part is None or int(part["Size"]) != len(data) or str(part["ETag"]).strip('"') != _etag(data):
            part = client.upload_part(**where, PartNumber=number, Body=data)
        yield {"PartNumber": number, "ETag": part["ETag"]}


def _etag(data: bytes) -> str:
    # What stores name a part by; where a store's keys encrypt it differs, and the part is sent again.
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _portion(fd: int, start: int, count: int) -> bytes:
    with storage_faults("reading a staged file"):
        parts, got = list[bytes](), 0
        while got < count:
            data = os.pread(fd, count - got, start + got)
            if not data:
                raise StorageError(f"a staged file ends {count - got} bytes early", zh="暂存文件不完整")
            parts.append(data)
            got += len(data)
    return b"".join(parts)
