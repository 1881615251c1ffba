"""The tables behind the boards: what was promised at each release, and what was watched where.

Hours begin at whole hours of UTC; days are those of the province's clock, counted from 1970-01-01. An area is a county,
a city or the province: each figure of a county stands once in each of the three, so that any of them is read alone.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from origin.database.tables import ID, schema

# What was said of a release when it was published; the document is a `StoredPromise`.
promises = Table(
    "promises",
    schema,
    Column("release", Integer, ForeignKey("releases.number"), primary_key=True, autoincrement=False),
    Column("made_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

# What an edge told of one lesson in one hour; an hour that is told again only grows. The lesson is empty for the hour
# as a whole. Old rows go: what stays of them are the sums below.
watching = Table(
    "watching",
    schema,
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("courseware", ID, primary_key=True),
    Column("plays", BigInteger, nullable=False),
    Column("terminals", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("ix_watching_hour", "hour"),
)

watching_hours = Table(
    "watching_hours",
    schema,
    Column("area", String(6), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("plays", BigInteger, nullable=False),
    Column("terminals", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

# `terminals` adds up those of each hour: how long all together watched, in hours. The empty lesson is the day's sum.
watching_days = Table(
    "watching_days",
    schema,
    Column("area", String(6), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("courseware", ID, primary_key=True),
    Column("plays", BigInteger, nullable=False),
    Column("terminals", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # One lesson, or the sums of all places, over time.
    Index("ix_watching_days_courseware", "courseware", "day", "area"),
)
