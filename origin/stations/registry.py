"""Enrolled edges: each gets a code, is written down with its public key, and is handed a bundle to start from.

The private key is made here and leaves in the bundle; the origin keeps the public half only. An edge that makes its own
pair is written down without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.bundle import BUNDLE_FORMAT, BUNDLE_MAJOR, Bundle, Identity, check_upstream
from manifests.errors import ConfigurationError, InputError, NotFoundError
from manifests.instants import dump_instant
from manifests.names import Region, is_within, parse_label
from manifests.signing import key_id_of, parse_public_key
from origin.clock import Clock
from origin.database.engine import writing
from origin.database.releases import note_audit
from origin.database.tables import edges
from origin.stations.regions import load_regions

MAX_UPSTREAMS: Final = 16


async def enroll(
    engine: AsyncEngine,
    county: str,
    name: str,
    upstreams: Sequence[str],
    root_json: str,
    clock: Clock,
    with_key: bool = True,
    *,
    publisher: Region,
) -> Bundle:
    """Write an edge down and make its bundle.

    Args:
        engine: the origin's database.
        county: code or Chinese name; a city's is accepted too, for a cache node between origin and counties.
        name: what people call this edge; empty for the region's name.
        upstreams: base addresses, most preferred first.
        root_json: the newest root's exact text, from which the edge's chain of roots begins.
        clock: gives the edge's first floor of trusted time.
        with_key: whether its key pair is made here.
        publisher: region of the publisher; the county must lie inside it.

    Raises:
        InputError: bad data; unknown county, outside the publisher's region, or a bad name.
        ConfigurationError: bad data; an upstream's address is refused, or there is none.
    """
    region = load_regions().find(county)
    if not is_within(region.code, publisher) or region.level == "province":
        raise InputError(
            f"{region.code} is no county or city of {publisher}",
            zh=f"{region.name}（{region.code}）不在 {publisher} 辖区内",
        )
    label = parse_label(name, "edge name", "边缘服务器名称") if name else region.name
    bases = _check_upstreams(upstreams)
    identity = _make_identity() if with_key else None
    now = clock()
    async with writing(engine) as connection:
        used = await connection.execute(select(func.max(edges.c.serial)).where(edges.c.region == region.code))
        serial = (used.scalar() or 0) + 1
        code = f"{region.code}-{serial}"
        await connection.execute(
            insert(edges).values(
                code=code,
                region=region.code,
                serial=serial,
                name=label,
                key_id=identity.key_id if identity else None,
                public_key=identity.public_key if identity else None,
                enrolled_at=now,
            )
        )
        await note_audit(connection, now, "enroll", f"{code} key {identity.key_id if identity else 'of its own'}")
    return Bundle(
        format=BUNDLE_FORMAT,
        major=BUNDLE_MAJOR,
        publisher=publisher,
        region=region.code,
        region_name=region.name,
        upstreams=bases,
        root=root_json,
        issued=dump_instant(now),
        identity=identity,
    )


async def accept_key(engine: AsyncEngine, edge: str, public_key: str, clock: Clock, *, replace: bool = False) -> str:
    """Write down the public key of an edge that made its own pair.

    Args:
        engine: the origin's database.
        edge: its code, or its county's code or name while only one edge of that county has no key.
        public_key: 64 hexadecimal digits, as the edge's init printed them.
        clock: for the audit.
        replace: it may have another key already, which counts no longer.

    Returns:
        The edge's code.

    Raises:
        NotFoundError: bad data; no such edge.
        InputError: bad data; no key, a key of another edge, or the edge has one and `replace` is not given.
    """
    key = parse_public_key(public_key)
    async with writing(engine) as connection:
        rows = (await connection.execute(select(edges.c.code, edges.c.region, edges.c.public_key))).all()
        code = _choose(edge, [(row.code, row.region, row.public_key) for row in rows])
        owner = next((row.code for row in rows if row.public_key == key), code)
        if owner != code:
            raise InputError(f"this is the key of edge {owner}", zh=f"该公钥属于边缘服务器 {owner}")
        before = next(row.public_key for row in rows if row.code == code)
        if before not in {None, key} and not replace:
            raise InputError(
                f"edge {code} has another key already",
                zh=f"边缘服务器 {code} 已登记其他公钥",
                hint="give --replace if the edge was made anew; reports signed by the old key are refused then",
                hint_zh="若该边缘服务器已重建，请加 --replace；旧密钥签名的上报将不再接受",
            )
        values = {"key_id": key_id_of(key), "public_key": key}
        await connection.execute(update(edges).where(edges.c.code == code).values(values))
        await note_audit(connection, clock(), "accept-key", f"{code} key {key_id_of(key)}")
    return code


def _choose(edge: str, rows: Sequence[tuple[str, str, str | None]]) -> str:
    if any(code == edge for code, _, _ in rows):
        return edge
    region = load_regions().find(edge.partition("-")[0]).code
    there = [(code, key) for code, of, key in rows if of == region]
    without = [code for code, key in there if key is None] or [code for code, _ in there]
    if len(without) == 1 and "-" not in edge:
        return without[0]
    known = ", ".join(code for code, _ in there) or "-"
    raise NotFoundError(
        f"no edge {edge[:40]!r} is enrolled; of {region} there are: {known}",
        zh=f"没有已开通的边缘服务器 {edge[:40]!r};{region} 现有：{known}",
    )


def _check_upstreams(upstreams: Sequence[str]) -> tuple[str, ...]:
    bases = tuple(dict.fromkeys(check_upstream(url) for url in upstreams))
    if not 1 <= len(bases) <= MAX_UPSTREAMS:
        raise ConfigurationError(
            f"{len(bases)} upstreams given; an edge needs 1 to {MAX_UPSTREAMS}",
            zh=f"上游地址数量为 {len(bases)}，应为 1–{MAX_UPSTREAMS} 个",
            hint="give --upstream URL, or set publisher.upstreams in origin.toml",
            hint_zh="请使用 --upstream URL，或在 origin.toml 中设置 publisher.upstreams",
        )
    return bases


def _make_identity() -> Identity:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The key id is a short name of the public key, not of the edge: a second key would be another identity.
    return Identity(
        key_id=hashlib.sha256(public).hexdigest()[:16], public_key=public.hex(), private_key=pem.decode("ascii")
    )
