"""Lessons that are taken away or offered to some regions only; pilots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.add_column("drafts", sa.Column("pilot", sa.Text(), nullable=True))
    op.add_column("courseware", sa.Column("trial", sa.Integer(), nullable=True))
    op.create_table(
        "pilots",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("base", sa.Integer(), nullable=True),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("waves", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("known_faults", sa.Text(), nullable=False),
        sa.Column("started_by", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("wave_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("by_itself", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reason_zh", sa.Text(), nullable=False),
        sa.CheckConstraint("wave >= 0", name=op.f("ck_pilots_wave")),
        sa.ForeignKeyConstraint(["courseware"], ["courseware.id"], name=op.f("fk_pilots_courseware")),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name=op.f("fk_pilots_release")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pilots")),
    )
    op.create_index("ix_pilots_state", "pilots", ["state", "ended_at"], unique=False)
    op.create_index("ix_pilots_courseware", "pilots", ["courseware"], unique=False)
    op.create_table(
        "offerings",
        sa.Column("release", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("tried", sa.Integer(), nullable=True),
        sa.Column("areas", sa.Text(), nullable=True),
        sa.Column("pilot", sa.BigInteger(), nullable=True),
        sa.Column("wave", sa.Integer(), nullable=True),
        sa.Column("ends", sa.String(length=16), nullable=True),
        sa.Column("by_itself", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reason_zh", sa.Text(), nullable=False),
        sa.CheckConstraint("areas IS NULL OR version IS NOT NULL", name=op.f("ck_offerings_areas")),
        sa.CheckConstraint("tried IS NULL OR areas IS NOT NULL", name=op.f("ck_offerings_tried")),
        sa.ForeignKeyConstraint(["courseware"], ["courseware.id"], name=op.f("fk_offerings_courseware")),
        sa.ForeignKeyConstraint(["pilot"], ["pilots.id"], name=op.f("fk_offerings_pilot")),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name=op.f("fk_offerings_release")),
        sa.PrimaryKeyConstraint("release", "courseware", name=op.f("pk_offerings")),
    )
    op.create_index("ix_offerings_courseware", "offerings", ["courseware", "release"], unique=False)
