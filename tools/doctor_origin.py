"""Doctor's checks of an origin: configuration, keys, signed metadata, database, and the machine below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tuf.api.metadata import Root, Signed

from manifests.catalog import decode_catalog, items_of
from manifests.cities import merge_catalogs, role_of
from manifests.digests import Digest, check_bytes
from manifests.errors import ConfigurationError, ObjectStorageError, StorageError, YuanjiaoError
from manifests.instants import Instant
from manifests.model import Catalog
from manifests.settings import load_settings
from origin.database.engine import open_database, reading
from origin.database.library import newest_release
from origin.opening import open_storage
from origin.paths import Paths
from origin.publish.cities import entries_of, rights_of
from origin.publish.delegation import TARGETS
from origin.publish.keys import check_key_files, key_files
from origin.publish.metadata import Chain, MetadataDir
from origin.settings import Settings
from origin.storage.base import BlobStorage
from tools import doctor_machine as machine
from tools.doctor_model import Area, Finding, Maker, check_expiry
from tools.doctor_redirects import check_addresses

RESERVE_BYTES = 1 << 30  # an origin has no reserve of its own; below this a video of an evening does not fit
_DAY_S = 86400
_ONLINE = ("snapshot", "timestamp")
_SIGN = (
    "publish, or start `yuanjiao origin serve`, which renews it",
    "请发布一次，或启动 `yuanjiao origin serve` 自动续签",
)
_ROTATE_ROOT = ("yuanjiao keys rotate root --origin DIR", "请执行 yuanjiao keys rotate root --origin DIR")


async def check_origin(root: Path, env: Mapping[str, str], now: Instant) -> list[Finding]:
    """Everything that is looked at on an origin."""
    paths = Paths(root)
    findings = [machine.check_versions()]
    settings = Settings()
    maker = Maker("configuration", Area.CONFIGURATION)
    try:
        settings = load_settings(Settings, paths.settings.read_text(encoding="utf-8"), env, paths.settings.name)
        findings.append(maker.ok("origin.toml is in order", "origin.toml 正确"))
    except ConfigurationError as error:
        findings.append(maker.from_error(error))
    except (OSError, UnicodeDecodeError) as error:
        findings.append(
            maker.fail(f"origin.toml: {error}", f"origin.toml 无法读取：{error}", "mend it", "请修复该文件")
        )
    findings += machine.check_directories((paths.root, paths.blobs, paths.metadata, paths.staging, paths.keys))
    findings += machine.check_free(paths.blobs, RESERVE_BYTES)
    findings.append(machine.check_write(paths.staging))
    if not settings.database.url:
        remedy = ("restore origin.sqlite and metadata from one backup", "请从同一份备份恢复 origin.sqlite 与 metadata")
        findings.append(machine.check_sqlite(paths.database, "database", remedy))
    else:
        findings.append(await _check_server(settings.database.url))
    findings += _check_keys(paths.keys)
    findings += _check_metadata(paths.metadata, now)
    findings += await _check_content(paths, settings)
    findings += await check_addresses(settings, paths, now)
    findings.append(machine.check_zone(now))
    findings.append(await machine.check_port(settings.serve.host, settings.serve.port))
    return findings


async def _check_server(url: str) -> Finding:
    maker = Maker("database", Area.STORAGE)
    try:
        async with open_database(url) as engine, reading(engine) as connection:
            await newest_release(connection)
    except YuanjiaoError as error:
        return maker.from_error(error)
    return maker.ok("the database answers", "数据库可以访问")


def _check_keys(directory: Path) -> Iterator[Finding]:
    maker = Maker("keys", Area.CONFIGURATION)
    for one in check_key_files(directory):
        yield maker.fail(one.problem, one.problem_zh, one.remedy, one.remedy_zh)
    here = {file.role for file in key_files(directory)}
    missing = [role for role in _ONLINE if role not in here]
    if missing:
        yield maker.fail(
            f"keys that must be on line are missing: {', '.join(missing)}",
            f"缺少在线密钥：{'、'.join(missing)}",
            "restore them from a backup, or rotate the role with the root key at hand",
            "请从备份恢复，或接入根密钥后更换该角色密钥",
        )
    if {"root", "targets"} & here:
        # Not a warning: publishing needs the targets key here, and a demo or a small province keeps both.
        text = "root or targets key lies on this machine; a copy off line is safer"
        yield maker.ok(text, "根密钥或目标清单密钥在本机，建议另存离线介质")
    elif not missing:
        yield maker.ok("keys that must be on line are here, the others are elsewhere", "在线密钥齐全，离线密钥不在本机")


def _check_metadata(directory: Path, now: Instant) -> Iterator[Finding]:
    maker = Maker("metadata", Area.TRUST)
    try:
        chain = MetadataDir(directory).chain()
    except StorageError as error:
        yield maker.from_error(error)
        return
    if chain is None:
        remedy = ("yuanjiao origin init DIR", "请执行 yuanjiao origin init DIR")
        yield maker.fail("there is no signed release", "没有已签名的版本", *remedy)
        return
    broken = chain.unproved_roles()
    if broken:
        yield maker.fail(
            f"the newest root does not vouch for: {', '.join(broken)}",
            f"最新的根不认可：{'、'.join(broken)}",
            "publish once: what a rotation left half done is finished",
            "请发布一次，未完成的密钥更换会继续完成",
        )
    else:
        yield maker.ok("every role is signed as the newest root asks", "各角色签名有效")
    yield machine.check_clock(now, _issued(chain), "the timestamp")
    yield from _check_expiries(chain, now)
    yield from _check_cities(directory.parent / "keys", chain, now)


def _check_cities(keys: Path, chain: Chain, now: Instant) -> Iterator[Finding]:
    """Cities that publish: nothing that is wrong with one of them stops the province."""
    maker = Maker("cities", Area.TRUST)
    here = {file.role for file in key_files(keys)}
    for right in rights_of(chain):
        role = role_of(right.city)
        if role in chain.damaged:
            again = (f"yuanjiao publish … --publisher {right.city} signs a new one", "请以该市名义发布一次")
            yield maker.fail(f"{role} is absent or damaged", f"{role} 签名缺失或已损坏", *again)
        elif right.expires is not None:
            yield check_expiry(role, right.expires, now, 30 * _DAY_S, _SIGN)
        if role not in here:
            text = f"the key of {role} is not on this machine: what it signs waits for its medium"
            yield maker.ok(text, f"{role} 密钥不在本机，发布时需接入介质")


async def _check_content(paths: Paths, settings: Settings) -> list[Finding]:
    """The catalog that is offered now proves, and every blob it names is here at its full length."""
    maker = Maker("content", Area.STORAGE)
    remedy = (
        "publish the lesson's files again, or restore blobs/ from a backup",
        "请重新发布该课件，或从备份恢复 blobs",
    )
    try:
        async with open_storage(settings.storage, paths) as storage:
            catalog = await _read_catalog(storage, paths)
            if catalog is None:
                return []
            lacking = await _lacking(storage, catalog)
    except (ObjectStorageError, ConfigurationError) as error:
        return [maker.from_error(error)]
    except (YuanjiaoError, OSError, KeyError) as error:
        again = ("publish or recall once: the catalog is made anew", "请发布或撤回一次，目录会重新生成")
        return [maker.fail(f"the current catalog cannot be used: {error}", "当前目录缺失或已损坏", *again)]
    if lacking:
        shown = ", ".join(lacking[:5])
        text = f"{len(lacking)} files of offered courseware are lost or too short: {shown}"
        return [maker.fail(text, f"有 {len(lacking)} 个课件文件缺失或不完整：{shown}", *remedy)]
    return [maker.ok("the catalog proves and all that it names is here", "当前目录有效，所列文件齐全")]


async def _read_catalog(storage: BlobStorage, paths: Paths) -> Catalog | None:
    chain = MetadataDir(paths.metadata).chain()
    if chain is None:
        return None
    found = []
    for role, file in entries_of(chain).items():
        target = next(iter(file.targets.values()))
        digest, size = Digest(target.hashes["sha256"]), target.length
        data = b"".join([portion async for portion in storage.read(digest, 0, size)])
        check_bytes(data, digest, size, "the current catalog" if role == TARGETS else f"the catalog of {role}")
        found.append(decode_catalog(data))
    return merge_catalogs(found[0], found[1:])


async def _lacking(storage: BlobStorage, catalog: Catalog) -> list[str]:
    """Files that cannot be served; all blobs are listed once, for a bucket is not asked fifty thousand times."""
    here = {digest async for digest in storage.digests()}
    found = []
    for item in items_of(catalog):
        for file in item.files:
            path = storage.local_path(Digest(file.blob))
            cut = path is not None and path.stat().st_size != file.size
            if cut or not {Digest(name) for name in (file.blob, file.table) if name} <= here:
                found.append(f"{item.id} {file.name}")
    return found


def _issued(chain: Chain) -> Instant | None:
    try:
        return chain.issued
    except KeyError:
        return None


def _check_expiries(chain: Chain, now: Instant) -> Iterator[Finding]:
    root: Root = chain.root.signed
    yield check_expiry("root", _expires(root), now, 90 * _DAY_S, _ROTATE_ROOT)
    yield check_expiry("targets", _expires(chain.targets.signed), now, 30 * _DAY_S, _SIGN)
    yield check_expiry("snapshot", _expires(chain.snapshot.signed), now, 3 * _DAY_S, _SIGN)
    yield check_expiry("timestamp", _expires(chain.timestamp.signed), now, 3600, _SIGN)


def _expires(signed: Signed) -> Instant:
    return Instant(int(signed.expires.timestamp()))
