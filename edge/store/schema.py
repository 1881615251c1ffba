"""The index's tables. A change here is a new GENERATION: an index of another one is rebuilt, never migrated."""

from __future__ import annotations

GENERATION = 1
# Names and places of the files in an edge's directory; another number is refused, not converted.
LAYOUT_GENERATION = 1

# blobs, marks: whole blobs; `marks` is the xxh3-64 of each piece, 8 bytes each, end to end.
# rot: pieces of whole blobs that are known to be wrong on the disk; a blob with a row here is not served.
# partials, pieces: what is proved of blobs that are not whole.
# courseware, docs: installed items; `mark` is the xxh3-64 of `doc`, so that a damaged row is never shown.
# Long values stand in tables of their own, so that listing 50,000 items or 200,000 blobs reads few pages.
# refs: which courseware needs which blob (file or piece table).
# catalogs: kept catalog blobs. meta: small JSON values.
SCHEMA = """
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY NOT NULL,
    size INTEGER NOT NULL,
    piece_size INTEGER NOT NULL,
    piece_table TEXT,
    scrubbed_at INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE marks (
    digest TEXT PRIMARY KEY NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    marks BLOB NOT NULL
);
CREATE TABLE rot (
    digest TEXT NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    piece INTEGER NOT NULL,
    PRIMARY KEY (digest, piece)
) WITHOUT ROWID;
CREATE TABLE partials (
    id INTEGER PRIMARY KEY,
    digest TEXT UNIQUE NOT NULL,
    size INTEGER NOT NULL,
    piece_size INTEGER NOT NULL,
    piece_table TEXT
);
CREATE TABLE pieces (
    partial INTEGER NOT NULL REFERENCES partials (id) ON DELETE CASCADE,
    piece INTEGER NOT NULL,
    mark BLOB NOT NULL,
    PRIMARY KEY (partial, piece)
) WITHOUT ROWID;
CREATE TABLE courseware (
    id TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    mark BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE docs (
    id TEXT PRIMARY KEY NOT NULL REFERENCES courseware (id) ON DELETE CASCADE,
    doc BLOB NOT NULL
);
CREATE TABLE refs (
    digest TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (digest, id)
) WITHOUT ROWID;
CREATE TABLE catalogs (
    digest TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    size INTEGER NOT NULL,
    piece_size INTEGER NOT NULL,
    piece_table TEXT
);
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
"""

TABLES = ("blobs", "marks", "rot", "partials", "pieces", "courseware", "docs", "refs", "catalogs", "meta")

# Set once per connection. NORMAL: a power cut may lose the last transactions but never breaks the file; what must
# last is committed with FULL, see `Index.write`.
WRITER_PRAGMAS = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)
READER_PRAGMAS = ("PRAGMA busy_timeout = 10000", "PRAGMA query_only = ON", "PRAGMA temp_store = MEMORY")
