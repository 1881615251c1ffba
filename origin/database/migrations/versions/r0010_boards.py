"""What was promised at each release, and what was watched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0010"
down_revision = "r0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "promises",
        sa.Column("release", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name=op.f("fk_promises_release")),
        sa.PrimaryKeyConstraint("release", name=op.f("pk_promises")),
    )
    op.create_table(
        "watching",
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("courseware", sa.String(length=64), nullable=False),
        *_figures(),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_watching_edge")),
        sa.PrimaryKeyConstraint("edge", "hour", "courseware", name=op.f("pk_watching")),
    )
    op.create_index("ix_watching_hour", "watching", ["hour"], unique=False)
    op.create_table(
        "watching_hours",
        sa.Column("area", sa.String(length=6), nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        *_figures(),
        sa.PrimaryKeyConstraint("area", "hour", name=op.f("pk_watching_hours")),
    )
    op.create_table(
        "watching_days",
        sa.Column("area", sa.String(length=6), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("courseware", sa.String(length=64), nullable=False),
        *_figures(),
        sa.PrimaryKeyConstraint("area", "day", "courseware", name=op.f("pk_watching_days")),
    )
    op.create_index("ix_watching_days_courseware", "watching_days", ["courseware", "day", "area"], unique=False)


def _figures() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("plays", "terminals", "bytes")]
