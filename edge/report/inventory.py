"""What the next inventory says: everything, or the change since the last one. State in, plan out.

This file knows no file, clock or line: what was told before and what is here now come in as values.
"""

from __future__ import annotations

from collections.abc import Mapping

from manifests.reports import Inventory, inventory_digest


def plan_inventory(
    base: int,
    told: Mapping[str, int],
    held: Mapping[str, int],
    recalls: Mapping[str, int],
    catalog_version: int,
    told_catalog: int,
    cities: Mapping[str, int] | None = None,
    told_cities: Mapping[str, int] | None = None,
) -> Inventory | None:
    """The inventory to send; None when there is nothing to tell.

    Args:
        base: number of the inventory after which the province knows `told`; 0: it knows nothing, tell everything.
        told: id → version, as told last.
        held: id → version, as proved here now.
        recalls: id → recalled version, by the installed catalogs.
        catalog_version: the installed catalog; that it moved is news too, since it proves what is *not* here.
        told_catalog: the catalog of the inventory that was told last.
        cities: of each city whose catalog is installed beside the province's, its version.
        told_cities: those of the inventory that was told last.
    """
    gone = tuple(sorted(id_ for id_ in told if id_ not in held))
    new = {id_: version for id_, version in sorted(held.items()) if told.get(id_) != version}
    if base and not gone and not new and (catalog_version, cities or {}) == (told_catalog, told_cities or {}):
        return None
    return Inventory(
        catalog_version=catalog_version,
        digest=inventory_digest(dict(held)),
        count=len(held),
        base=base,
        held=new if base else dict(sorted(held.items())),
        gone=gone if base else (),
        recalls={id_: recalls[id_] for id_ in gone if recalls.get(id_, 0) >= told[id_]},
        cities=dict(sorted((cities or {}).items())),
    )
