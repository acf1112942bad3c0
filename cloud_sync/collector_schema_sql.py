"""The collector's tables, the same on SQLite and PostgreSQL.

Held is what a stream's cursor covers; ``held_event`` shows it to readers.

On SQLite they are made by ``collector_sqlite_sql``, on PostgreSQL by the revisions in ``cloud_sync/migrations``; a test
holds both to what stands here.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

_Long = BigInteger().with_variant(Integer, "sqlite")
"""SQLite's row number is an INTEGER by name; PostgreSQL's has four bytes."""

stream = Table(
    "stream",
    metadata,
    Column("id", _Long, primary_key=True),
    Column("source", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("seq", _Long, nullable=False),  # all up to here is held
    Column("digest", LargeBinary, nullable=False),  # the chain's hash there; empty but for audit
    Column("heard", Float, nullable=False),  # wall seconds
    Column("reach", _Long, nullable=False, server_default="0"),  # how far rows and thinned ranges go without a gap
    Column("unproven", _Long, nullable=False, server_default="0"),  # bytes of the rows above seq when last settled
    Column("pending", _Long, nullable=False, server_default="0"),  # and how many they were
    Column("waiting", Float),  # wall seconds since when rows wait and seq has not moved; null when none waits
    UniqueConstraint("source", "epoch", "class"),
)

epoch = Table(
    "epoch",
    metadata,
    Column("source", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("previous", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("last_seq", _Long),  # of the previous epoch, as far as the node could know
    Column("kept_seq", _Long, nullable=False),  # where the chain of the previous epoch ends, and its hash
    Column("kept_hash", LargeBinary, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", _Long, primary_key=True),
    Column("stream", _Long, nullable=False),
    Column("seq", _Long, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("prev", LargeBinary, nullable=False),
    Column("start", _Long),  # of a seal: where our share begins; null in other events
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
    Column("id", _Long, primary_key=True),  # in the order they were told
    Column("stream", _Long, nullable=False),
    Column("first", _Long, nullable=False),
    Column("last", _Long, nullable=False),
    Column("count", _Long, nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("stream", "first"),
)

fresh = Table(
    # What came since a stream was last settled, one row per batch: whichever worker settles next finds it, also when
    # the one that took it in has died. Only inserted and deleted, so that workers do not wait for each other.
    "fresh",
    metadata,
    Column("id", _Long, primary_key=True),
    Column("source", Text, nullable=False),
    Column("stream", _Long, nullable=False),  # 0: something else of the node came, such as its presence
    Column("bytes", _Long, nullable=False),
    Column("at", Float, nullable=False),  # wall seconds
)
Index("fresh_source", fresh.c.source)

wanted = Table(
    "wanted",
    metadata,
    Column("source", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("class", Text, primary_key=True),
    Column("first", _Long, primary_key=True),
    Column("last", _Long, nullable=False),
    Column("due", Float, nullable=False),  # wall seconds: when the node is asked (again)
    Column("pause", Float, nullable=False),  # seconds until the time after that
    Column("since", Float, nullable=False),  # wall seconds: when the gap was first seen
)
Index("wanted_due", wanted.c.due)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Long, primary_key=True),
    Column("source", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("seq", _Long, nullable=False),
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
    Column("minute", _Long, primary_key=True),  # of wall time since 1970
    Column("count", _Long, nullable=False),
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

moved = Table(
    # Nodes that another store keeps from now on: nothing of theirs is taken in or acknowledged here any more.
    "moved",
    metadata,
    Column("source", Text, primary_key=True),
    Column("done", Integer, nullable=False),  # 1 when what is over there was verified, and can be seen there
    Column("at", Float, nullable=False),
)

HELD_VIEW = """
CREATE VIEW held_event AS
SELECT stream.source, stream.epoch, stream.class, event.seq, event_id, type, subject, time, body, event.digest
FROM event JOIN stream ON stream.id = event.stream
WHERE event.seq <= stream.seq
AND NOT EXISTS (SELECT 1 FROM moved WHERE moved.source = stream.source AND moved.done = 1)
"""
