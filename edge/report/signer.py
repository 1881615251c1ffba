"""The edge's own key, for signing what it says upward."""

from __future__ import annotations

from edge.paths import Paths
from edge.store.faults import storage_faults
from manifests.bundle import Bundle
from manifests.signing import Signer


def read_signer(paths: Paths, bundle: Bundle) -> Signer:
    """Read the edge's key.

    Raises:
        ConfigurationError: bad data; it is no Ed25519 key.
        StorageError: environment; it cannot be read.
    """
    with storage_faults("reading identity/key.pem", "读取 identity/key.pem"):
        pem = paths.key.read_bytes()
    return Signer(pem, bundle.identity.key_id if bundle.identity is not None else "")
