"""The tables of the first collector on PostgreSQL. Never changed once released: what comes later is a new revision."""

from __future__ import annotations

from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE stream (id BIGSERIAL PRIMARY KEY, source TEXT NOT NULL, epoch TEXT NOT NULL, class TEXT NOT NULL,
  seq BIGINT NOT NULL, digest BYTEA NOT NULL, heard DOUBLE PRECISION NOT NULL, reach BIGINT NOT NULL DEFAULT 0,
  unproven BIGINT NOT NULL DEFAULT 0, pending BIGINT NOT NULL DEFAULT 0, waiting DOUBLE PRECISION,
  UNIQUE (source, epoch, class));
CREATE TABLE epoch (source TEXT NOT NULL, epoch TEXT NOT NULL, previous TEXT NOT NULL, cause TEXT NOT NULL,
  last_seq BIGINT, kept_seq BIGINT NOT NULL, kept_hash BYTEA NOT NULL, PRIMARY KEY (source, epoch));
CREATE TABLE event (id BIGSERIAL PRIMARY KEY, stream BIGINT NOT NULL, seq BIGINT NOT NULL, digest BYTEA NOT NULL,
  prev BYTEA NOT NULL, start BIGINT, event_id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL,
  time TEXT NOT NULL, body BYTEA NOT NULL, UNIQUE (stream, seq, digest));
CREATE TABLE dropped (id BIGSERIAL PRIMARY KEY, stream BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL,
  count BIGINT NOT NULL, reason TEXT NOT NULL, UNIQUE (stream, first));
CREATE TABLE fresh (id BIGSERIAL PRIMARY KEY, source TEXT NOT NULL, stream BIGINT NOT NULL, bytes BIGINT NOT NULL,
  at DOUBLE PRECISION NOT NULL);
CREATE INDEX fresh_source ON fresh (source);
CREATE TABLE wanted (source TEXT NOT NULL, epoch TEXT NOT NULL, class TEXT NOT NULL, first BIGINT NOT NULL,
  last BIGINT NOT NULL, due DOUBLE PRECISION NOT NULL, pause DOUBLE PRECISION NOT NULL,
  since DOUBLE PRECISION NOT NULL, PRIMARY KEY (source, epoch, class, first));
CREATE INDEX wanted_due ON wanted (due);
CREATE TABLE quarantine (id BIGSERIAL PRIMARY KEY, source TEXT NOT NULL, epoch TEXT NOT NULL, class TEXT NOT NULL,
  seq BIGINT NOT NULL, digest BYTEA NOT NULL, reason TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, body BYTEA NOT NULL,
  UNIQUE (source, epoch, class, seq, digest));
CREATE INDEX quarantine_source ON quarantine (source);
CREATE TABLE refused (source TEXT NOT NULL, reason TEXT NOT NULL, minute BIGINT NOT NULL, count BIGINT NOT NULL,
  PRIMARY KEY (source, reason, minute));
CREATE TABLE presence (source TEXT NOT NULL PRIMARY KEY, payload BYTEA NOT NULL, heard DOUBLE PRECISION NOT NULL);
CREATE TABLE result (source TEXT NOT NULL, id TEXT NOT NULL, token BYTEA NOT NULL, heard DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (source, id));
CREATE TABLE moved (source TEXT NOT NULL PRIMARY KEY, done INTEGER NOT NULL, at DOUBLE PRECISION NOT NULL);
CREATE VIEW held_event AS
  SELECT stream.source, stream.epoch, stream.class, event.seq, event_id, type, subject, time, body, event.digest
  FROM event JOIN stream ON stream.id = event.stream
  WHERE event.seq <= stream.seq
  AND NOT EXISTS (SELECT 1 FROM moved WHERE moved.source = stream.source AND moved.done = 1)
"""


def upgrade() -> None:
    """Make them. What somebody has made by hand under these names ends it, and nothing was changed."""
    for statement in TABLES.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """There is nothing before: a person who wants the tables gone drops the database."""
