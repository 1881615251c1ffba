"""The tables of what is offered to some regions only, and of the pilots that such offers are steps of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text

from origin.database.tables import ID, SERIAL, schema

# A version that goes to some regions first. `waves` are lists of region codes, `wave` is the one that is at work, as
# JSON `terms` and `known_faults` say what stops it. Rows are begun with a release, and count once that is published.
pilots = Table(
    "pilots",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("courseware", ID, ForeignKey("courseware.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("base", Integer),
    Column("release", Integer, ForeignKey("releases.number"), nullable=False),
    Column("title", String(200), nullable=False),
    Column("waves", Text, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("terms", Text, nullable=False),
    Column("known_faults", Text, nullable=False),
    Column("started_by", String(64), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("wave_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("by_itself", Boolean(create_constraint=False), nullable=False),
    Column("reason", Text, nullable=False),
    Column("reason_zh", Text, nullable=False),
    CheckConstraint("wave >= 0", name="wave"),
    Index("ix_pilots_state", "state", "ended_at"),
    Index("ix_pilots_courseware", "courseware"),
)

# What a release says of a lesson when that is not simply "its new version, to all": from this release on, `version` is
# offered (none: taken away); with `areas` (JSON) to these only, or, when `tried` is another version, that one to these
# and `version` to all others. `pilot`, `wave` and `ends` say which step of which pilot that is.
offerings = Table(
    "offerings",
    schema,
    Column("release", Integer, ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    Column("courseware", ID, ForeignKey("courseware.id"), primary_key=True),
    Column("version", Integer),
    Column("tried", Integer),
    Column("areas", Text),
    Column("pilot", BigInteger, ForeignKey("pilots.id")),
    Column("wave", Integer),
    Column("ends", String(16)),
    Column("by_itself", Boolean(create_constraint=False), nullable=False),
    Column("reason", Text, nullable=False),
    Column("reason_zh", Text, nullable=False),
    CheckConstraint("areas IS NULL OR version IS NOT NULL", name="areas"),
    CheckConstraint("tried IS NULL OR areas IS NOT NULL", name="tried"),
    Index("ix_offerings_courseware", "courseware", "release"),
)
