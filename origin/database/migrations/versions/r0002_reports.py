"""What edges report: where each one stands, what it holds, recalls proved gone, runs, states."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "reporting",
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.Column("inventory", sa.BigInteger(), nullable=False),
        sa.Column("inventory_at", sa.BigInteger(), nullable=True),
        sa.Column("catalog_version", sa.BigInteger(), nullable=False),
        sa.Column("want_full", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_reporting_edge")),
        sa.PrimaryKeyConstraint("edge", name=op.f("pk_reporting")),
    )
    op.create_table(
        "holdings",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_holdings_edge")),
        sa.PrimaryKeyConstraint("courseware", "edge", name=op.f("pk_holdings")),
    )
    op.create_index("ix_holdings_edge", "holdings", ["edge"], unique=False)
    op.create_table(
        "receipts",
        sa.Column("courseware", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("gone_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_receipts_edge")),
        sa.PrimaryKeyConstraint("courseware", "version", "edge", name=op.f("pk_receipts")),
    )
    op.create_table(
        "runs",
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_runs_edge")),
        sa.PrimaryKeyConstraint("edge", "number", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_edge", "runs", ["edge", "at"], unique=False)
    op.create_table(
        "states",
        sa.Column("edge", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["edge"], ["edges.code"], name=op.f("fk_states_edge")),
        sa.PrimaryKeyConstraint("edge", name=op.f("pk_states")),
    )
