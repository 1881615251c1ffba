"""A real S3 server on this machine: one process for all tests of a session."""

import dataclasses
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from origin.storage.s3_client import LEAST_PART_BYTES, S3Options, connect


@contextmanager
def object_store(directory: Path) -> Iterator[S3Options]:
    """Run a server; gives options whose account it knows, without a bucket."""
    account = directory / "s3.toml"
    fd = os.open(account, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b'access_key = "AKIDTEST"\nsecret_key = "not-a-secret"\n')
    os.close(fd)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (directory / "s3.log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait(process, endpoint)
        yield S3Options("", endpoint=endpoint, addressing="path", credentials=account, attempts=2)
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait(process: subprocess.Popen, endpoint: str) -> None:
    until = time.monotonic() + 90
    while True:
        assert process.poll() is None, "the S3 server ended at once"
        try:
            with urllib.request.urlopen(endpoint + "/moto-api/data.json", timeout=10):
                return
        except OSError:
            assert time.monotonic() < until, "the S3 server does not answer"
            time.sleep(0.1)


def bucket_of(store: S3Options) -> S3Options:
    """Make a new bucket; parts are as small as they may be."""
    options = dataclasses.replace(
        store, bucket=f"b-{secrets.token_hex(6)}", prefix="henan/", part_bytes=LEAST_PART_BYTES
    )
    client = connect(options)
    client.create_bucket(Bucket=options.bucket)
    client.close()
    return options


def environment(options: S3Options) -> dict[str, str]:
    """The environment that has an origin keep its blobs in this bucket."""
    return {
        "YUANJIAO_STORAGE_KIND": "s3",
        "YUANJIAO_STORAGE_BUCKET": options.bucket,
        "YUANJIAO_STORAGE_PREFIX": options.prefix,
        "YUANJIAO_STORAGE_ENDPOINT": options.endpoint,
        "YUANJIAO_STORAGE_ADDRESSING": options.addressing,
        "YUANJIAO_STORAGE_CREDENTIALS": str(options.credentials),
        "YUANJIAO_STORAGE_PART_BYTES": str(options.part_bytes),
    }
