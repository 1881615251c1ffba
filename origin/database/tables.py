"""The tables, as SQLAlchemy Core sees them. A change here needs a migration; a test compares the two.

Only what SQLite and PostgreSQL both know: no implicit row ids, no JSON operators, no upsert dialects. Instants are
epoch seconds (`_at`). A version's `document` is what the catalog says of it, as JSON; the columns beside it repeat
what lists are filtered and sorted by, and the other tables repeat what must refer to something that exists.

A release begins, then is published or abandoned. What hangs on a release that is not published is not there yet:
`courseware.current` alone says what is offered, and moves in the same transaction that marks the release.

A `publisher` is the code of a city that publishes its own, empty for the province. A release is one publisher's:
`catalog_version` counts by publisher, `targets_version` (of the role that signs its catalog) by release.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# Names given by rule, so that a migration can drop a constraint on either database.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# The newest migration; a database that says so is opened without loading alembic.
HEAD = "r0011"

BEGUN, PUBLISHED, ABANDONED = "begun", "published", "abandoned"

schema = MetaData(naming_convention=_NAMING)

ID = String(64)
DIGEST = String(64)
# Counts up by itself on both databases; SQLite does so for INTEGER only.
SERIAL = BigInteger().with_variant(Integer, "sqlite")

# Numbers once given out never come back, also when what they were given to was abandoned: somebody may have seen it.
allotments = Table(
    "allotments",
    schema,
    Column("name", String(32), primary_key=True),
    Column("highest", BigInteger, nullable=False),
)

releases = Table(
    "releases",
    schema,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("publisher", String(6), nullable=False, server_default=""),
    Column("catalog_version", Integer, nullable=False),
    Column("targets_version", Integer, nullable=False),
    Column("catalog", DIGEST),
    Column("catalog_size", BigInteger),
    Column("catalog_table", DIGEST),
    Column("catalog_piece_size", Integer),
    Column("begun_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    CheckConstraint(f"state IN ('{BEGUN}', '{PUBLISHED}', '{ABANDONED}')", name="state"),
    CheckConstraint(f"state <> '{PUBLISHED}' OR catalog IS NOT NULL", name="catalog"),
    UniqueConstraint("targets_version"),
    Index("ix_releases_state", "state"),
)

courseware = Table(
    "courseware",
    schema,
    Column("id", ID, primary_key=True),
    Column("current", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("publisher", String(6), nullable=False, server_default=""),
    # The release whose row in `offerings` says to whom the current version goes; none: to all that it is meant for.
    Column("trial", Integer),
)

versions = Table(
    "versions",
    schema,
    Column("courseware", ID, ForeignKey("courseware.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("release", Integer, ForeignKey("releases.number"), nullable=False),
    Column("title", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("published_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("document", Text, nullable=False),
    CheckConstraint("number >= 1", name="number"),
    # Both columns: marking a release looks up each of its lessons by it, and a bulk import has fifty thousand.
    Index("ix_versions_release", "release", "courseware"),
    # The console's list, newest first, is read and searched from the index alone, past the documents.
    Index("ix_versions_published_at", "published_at", "courseware", "number", "title", "kind"),
)


def _of_version() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["courseware", "version"], ["versions.courseware", "versions.number"])


files = Table(
    "files",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String(200), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("blob", DIGEST, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("piece_table", DIGEST),
    Column("piece_size", Integer, nullable=False),
    _of_version(),
    Index("ix_files_blob", "blob"),
)

# What was handed in, when it is not what is played; kept, so that a lesson can be made anew with a better encoder.
originals = Table(
    "originals",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("blob", DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("piece_table", DIGEST),
    Column("piece_size", Integer, nullable=False),
    _of_version(),
    Index("ix_originals_blob", "blob"),
)

columns = Table(
    "columns",
    schema,
    Column("id", ID, primary_key=True),
    Column("title", String(60), nullable=False, unique=True),
    Column("position", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

placements = Table(
    "placements",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("column", ID, ForeignKey("columns.id"), primary_key=True),
    _of_version(),
    Index("ix_placements_column", "column"),
)

recalls = Table(
    "recalls",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("release", Integer, ForeignKey("releases.number"), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    _of_version(),
    Index("ix_recalls_release", "release"),
)

edges = Table(
    "edges",
    schema,
    Column("code", String(16), primary_key=True),
    Column("region", String(6), nullable=False),
    Column("serial", Integer, nullable=False),
    Column("name", String(60), nullable=False),
    Column("key_id", String(64), unique=True),
    Column("public_key", String(64), unique=True),
    Column("enrolled_at", BigInteger, nullable=False),
    UniqueConstraint("region", "serial"),
)

# Where each edge's reports stand: all numbers up to `received` are kept for good; the rest is of the newest inventory
# that could be built on. Numbers and versions come from outside and go up to 2^53. `cities` is JSON: of
# each city whose catalog is installed there, its version.
reporting = Table(
    "reporting",
    schema,
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
    Column("inventory", BigInteger, nullable=False),
    Column("inventory_at", BigInteger),
    Column("catalog_version", BigInteger, nullable=False),
    Column("want_full", Boolean(create_constraint=False), nullable=False),
    Column("cities", Text, nullable=False, server_default="{}"),
)

# What each edge proved that it holds. Not bound to `courseware`: an edge may be ahead of an origin from a backup.
holdings = Table(
    "holdings",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Index("ix_holdings_edge", "edge"),
)

# Recalled courseware that an edge had, and proved gone.
receipts = Table(
    "receipts",
    schema,
    Column("courseware", ID, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("gone_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    schema,
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("complete", Boolean(create_constraint=False), nullable=False),
    Column("document", Text, nullable=False),
    Index("ix_runs_edge", "edge", "at"),
)

# The latest of each edge.
states = Table(
    "states",
    schema,
    Column("edge", String(16), ForeignKey("edges.code"), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

# Rights that one of several origin processes has at a time; see `origin.database.leases`.
leases = Table(
    "leases",
    schema,
    Column("name", String(32), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)

# Signed role files, for all origin processes over a server; an origin on SQLite has them in its directory only.
role_files = Table(
    "role_files",
    schema,
    Column("name", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

# What encoding a video again would cost hours to find out; `document` is of whoever made them.
renditions = Table(
    "renditions",
    schema,
    Column("video", DIGEST, primary_key=True),
    Column("recipe", String(400), primary_key=True),
    Column("made_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

# Who reads it later asks "who changed what, when, from what to what". `actor` is empty for what was done on the machine
# itself; rows from before there were accounts have no region either.
audit = Table(
    "audit",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("action", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("actor", String(64)),
    Column("region", String(6)),
    Column("subject", String(80)),
    Column("before", Text),
    Column("after", Text),
    Column("address", String(64)),
)

accounts = Table(
    "accounts",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("login", String(64), nullable=False, unique=True),
    Column("name", String(60), nullable=False),
    Column("role", String(16), nullable=False),
    Column("region", String(6), nullable=False),
    Column("password", String(200), nullable=False),
    Column("password_at", BigInteger, nullable=False),
    Column("totp", String(64)),
    Column("totp_pending", String(64)),
    # The last step whose code was taken: a code that somebody looked at over a shoulder opens nothing.
    Column("totp_step", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

# Of every secret that a browser or a script holds, the digest only: a copy of the database opens nothing.
sessions = Table(
    "sessions",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("account", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("stage", String(8), nullable=False),
    Column("device", DIGEST, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
    Index("ix_sessions_account", "account", "device"),
)

# To join, or (when `account` is given) to set a new password.
invitations = Table(
    "invitations",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("account", BigInteger, ForeignKey("accounts.id")),
    Column("login", String(64)),
    Column("name", String(60), nullable=False),
    Column("role", String(16), nullable=False),
    Column("region", String(6), nullable=False),
    Column("by", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
)

recovery_codes = Table(
    "recovery_codes",
    schema,
    Column("account", BigInteger, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    Column("digest", DIGEST, primary_key=True),
)

tokens = Table(
    "tokens",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("account", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("name", String(60), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Column("ended_at", BigInteger),
    Index("ix_tokens_account", "account"),
)

# Failed sign-ins of the last hours; counting rows needs no upsert, which the two databases spell differently.
attempts = Table(
    "attempts",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("bucket", String(140), nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_attempts_bucket", "bucket", "at"),
    Index("ix_attempts_at", "at"),
)
