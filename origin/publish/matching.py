"""Which file of an earlier version a file comes from, so that a patch between the two may be short. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.model import File


def match_previous(file: File, files: Sequence[File], previous: Sequence[Sequence[File]]) -> tuple[File, ...]:
    """Files of earlier versions from which a patch to `file` may be short, newest first, each blob once.

    A match has the same role and name, or the same role when each version has only one file of it.
    """
    found: dict[str, File] = {}
    is_single = sum(one.role == file.role for one in files) == 1
    for version in previous:
        same_role = [one for one in version if one.role == file.role]
        match = next((one for one in same_role if one.name == file.name), None)
        if match is None and is_single and len(same_role) == 1:
            match = same_role[0]
        if match is not None:
            found.setdefault(match.blob, match)
    return tuple(found.values())
