"""The collector's tables. Held is what a stream's cursor covers; ``held_event`` shows it to readers."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

stream = Table(
    "stream",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("seq", Integer, nullable=False),  # all up to here is held
    Column("digest", LargeBinary, nullable=False),  # the chain's hash there; empty but for audit
    Column("heard", Float, nullable=False),  # wall seconds
    UniqueConstraint("source", "epoch", "class"),
)

epoch = Table(
    "epoch",
    metadata,
    Column("source", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("previous", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("last_seq", Integer),  # of the previous epoch, as far as the node could know
    Column("kept_seq", Integer, nullable=False),  # where the chain of the previous epoch ends, and its hash
    Column("kept_hash", LargeBinary, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("stream", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("prev", LargeBinary, nullable=False),
    Column("start", Integer),  # of a seal: where our share begins; null in other events
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Above the cursor a seq may have several rows, and a seal says which is true.
    UniqueConstraint("stream", "seq", "digest"),
)

dropped = Table(
    "dropped",
    metadata,
    Column("stream", Integer, primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("source", "epoch", "class", "seq", "digest"),
)
Index("quarantine_source", quarantine.c.source)

refused = Table(
    "refused",
    metadata,
    Column("source", Text, primary_key=True),  # "" where no known node is named
    Column("reason", Text, primary_key=True),
    Column("minute", Integer, primary_key=True),  # of wall time since 1970
    Column("count", Integer, nullable=False),
)

presence = Table(
    "presence",
    metadata,
    Column("source", Text, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("heard", Float, nullable=False),
)

result = Table(
    "result",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("token", LargeBinary, nullable=False),
    Column("heard", Float, nullable=False),
)

HELD_VIEW = """
CREATE VIEW IF NOT EXISTS held_event AS
SELECT stream.source, stream.epoch, stream.class, event.seq, event_id, type, subject, time, body, event.digest
FROM event JOIN stream ON stream.id = event.stream
WHERE event.seq <= stream.seq
"""
