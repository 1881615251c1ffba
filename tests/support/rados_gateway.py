"""Ceph's S3 server on this machine, where its packages are: a monitor, a store in memory, a gateway."""

import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from origin.storage.s3_client import S3Options

_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_WITHIN_S = 75  # all of it: on a machine too busy for that, the test's own deadline would be next

_CONF = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
osd data = {home}/osd
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {home}/mon
mon data avail crit = 1
memstore device bytes = 536870912
ms bind msgr2 = false
rgw data = {home}/rgw
run dir = {home}
admin socket = {home}/$name.asok
pid file = {home}/$name.pid
log file = {home}/$name.log
"""


@contextmanager
def rados_gateway(directory: Path) -> Iterator[S3Options]:
    """Run a gateway; gives options whose account it knows. Skips where it is not installed or does not come up."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: radosgw ceph-mon ceph-osd ceph-common)")
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir()
    fsid, mon, port = str(uuid.uuid4()), _free_port(), _free_port()
    conf = directory / "ceph.conf"
    conf.write_text(_CONF.format(fsid=fsid, mon=mon, home=directory))
    with ExitStack() as stack:
        try:
            _boot(stack, directory, conf, fsid, mon, port)
        except (subprocess.SubprocessError, TimeoutError, OSError) as error:
            pytest.skip(f"Ceph does not come up on this machine: {error}")
        secrets = directory / "s3.toml"
        secrets.touch(0o600)
        secrets.write_text('access_key = "AKIDTEST"\nsecret_key = "not-a-secret"\n')
        yield S3Options("", endpoint=f"http://127.0.0.1:{port}", addressing="path", credentials=secrets, attempts=5)


def _boot(stack: ExitStack, directory: Path, conf: Path, fsid: str, mon: int, port: int) -> None:
    log = stack.enter_context((directory / "boot.log").open("wb"))
    given = ("-c", str(conf))

    until = time.monotonic() + _WITHIN_S

    def run(*command: str) -> str:
        left_s = max(1.0, until - time.monotonic())
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=left_s, check=True, text=True)
        return done.stdout.strip()

    def start(*command: str) -> None:
        process = subprocess.Popen([*command, "-f"], stdout=log, stderr=log)
        stack.callback(process.wait, 30)
        stack.callback(process.kill)

    monmap, disk = str(directory / "monmap"), str(uuid.uuid4())
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{mon}]", monmap)
    run("ceph-mon", *given, "--mkfs", "-i", "a", "--monmap", monmap)
    start("ceph-mon", *given, "-i", "a")
    number = run("ceph", *given, "--connect-timeout", "60", "osd", "create", disk)
    run("ceph-osd", *given, "-i", number, "--mkfs", "--osd-uuid", disk)
    run("ceph", *given, "osd", "crush", "add", f"osd.{number}", "1", "root=default", "host=localhost")
    start("ceph-osd", *given, "-i", number)
    start("radosgw", *given, "-n", "client.rgw", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port}")
    _wait_for(f"http://127.0.0.1:{port}/", until)
    account = ("--uid=test", "--display-name=test", "--access-key=AKIDTEST", "--secret-key=not-a-secret")
    run("radosgw-admin", *given, "user", "create", *account)


def _wait_for(url: str, until: float) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError as error:
            if time.monotonic() > until:
                raise TimeoutError(f"{url} does not answer") from error
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = ["rados_gateway"]
