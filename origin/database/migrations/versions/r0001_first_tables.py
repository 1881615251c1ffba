"""The first tables: library, releases, trust numbers, edges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "allotments",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_allotments")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "columns",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=60), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_columns")),
        sa.UniqueConstraint("title", name=op.f("uq_columns_title")),
    )
    op.create_table(
        "courseware",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("current", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_courseware")),
    )
    op.create_table(
        "edges",
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("region", sa.String(length=6), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=True),
        sa.Column("public_key", sa.String(length=64), nullable=True),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_edges")),
        sa.UniqueConstraint("key_id", name=op.f("uq_edges_key_id")),
        sa.UniqueConstraint("public_key", name=op.f("uq_edges_public_key")),
        sa.UniqueConstraint("region", "serial", name=op.f("uq_edges_region")),
    )
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("catalog_version", sa.Integer(), nullable=False),
        sa.Column("targets_version", sa.Integer(), nullable=False),
        sa.Column("catalog", sa.String(length=64), nullable=True),
        sa.Column("catalog_size", sa.BigInteger(), nullable=True),
        sa.Column("catalog_table", sa.String(length=64), nullable=True),
        sa.Column("catalog_piece_size", sa.Integer(), nullable=True),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state <> 'published' OR catalog IS NOT NULL", name=op.f("ck_releases_catalog")),
        sa.CheckConstraint("state IN ('begun', 'published', 'abandoned')", name=op.f("ck_releases_state")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_releases")),
        sa.UniqueConstraint("targets_version", name=op.f("uq_releases_targets_version")),
    )
    op.create_index("ix_releases_state", "releases", ["state"], unique=False)
    op.create_table(
        "versions",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_versions_number")),
        sa.ForeignKeyConstraint(["courseware"], ["courseware.id"], name=op.f("fk_versions_courseware")),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name=op.f("fk_versions_release")),
        sa.PrimaryKeyConstraint("courseware", "number", name=op.f("pk_versions")),
    )
    op.create_index("ix_versions_release", "versions", ["release", "courseware"], unique=False)
    op.create_table(
        "files",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("piece_table", sa.String(length=64), nullable=True),
        sa.Column("piece_size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["courseware", "version"], ["versions.courseware", "versions.number"], name=op.f("fk_files_courseware")
        ),
        sa.PrimaryKeyConstraint("courseware", "version", "name", name=op.f("pk_files")),
    )
    op.create_index("ix_files_blob", "files", ["blob"], unique=False)
    op.create_table(
        "originals",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("piece_table", sa.String(length=64), nullable=True),
        sa.Column("piece_size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["courseware", "version"], ["versions.courseware", "versions.number"], name=op.f("fk_originals_courseware")
        ),
        sa.PrimaryKeyConstraint("courseware", "version", "blob", name=op.f("pk_originals")),
    )
    op.create_index("ix_originals_blob", "originals", ["blob"], unique=False)
    op.create_table(
        "placements",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("column", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["column"], ["columns.id"], name=op.f("fk_placements_column")),
        sa.ForeignKeyConstraint(
            ["courseware", "version"], ["versions.courseware", "versions.number"], name=op.f("fk_placements_courseware")
        ),
        sa.PrimaryKeyConstraint("courseware", "version", "column", name=op.f("pk_placements")),
    )
    op.create_index("ix_placements_column", "placements", ["column"], unique=False)
    op.create_table(
        "recalls",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["courseware", "version"], ["versions.courseware", "versions.number"], name=op.f("fk_recalls_courseware")
        ),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name=op.f("fk_recalls_release")),
        sa.PrimaryKeyConstraint("courseware", "version", "release", name=op.f("pk_recalls")),
    )
    op.create_index("ix_recalls_release", "recalls", ["release"], unique=False)
