"""Databases go forward in whole steps; and a row's place says epoch, class and seq."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import StoreError
from edge.schema_sql import (
    CLASS_NUMBERS,
    SEQ_MASK,
    create_journal,
    epoch_no_of,
    last_seq,
    migrate,
    place,
    read_fact,
    write_fact,
)


@pytest.fixture
def sql() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, [create_journal])
    yield connection
    connection.close()


def version(sql: sqlite3.Connection) -> int:
    return int(sql.execute("PRAGMA user_version").fetchone()[0])


def test_a_fresh_database_has_the_newest_version(sql: sqlite3.Connection) -> None:
    assert version(sql) == 1
    migrate(sql, [create_journal])
    assert version(sql) == 1


def test_steps_are_done_all_or_none(sql: sqlite3.Connection) -> None:
    def good(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE door (x)")

    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE door (x)")

    with pytest.raises(StoreError, match="from version 1 to 3"):
        migrate(sql, [create_journal, good, bad])
    assert version(sql) == 1
    assert sql.execute("SELECT count(*) FROM sqlite_master WHERE name = 'door'").fetchone() == (0,)
    migrate(sql, [create_journal, good])
    assert version(sql) == 2


def test_a_newer_database_is_refused_and_left_alone(sql: sqlite3.Connection) -> None:
    sql.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="version 9"):
        migrate(sql, [create_journal])
    assert version(sql) == 9


@given(st.integers(1, 2**15 - 1), st.sampled_from(list(CLASS_NUMBERS.values())), st.integers(1, SEQ_MASK))
def test_places_are_unique_ordered_and_fit(epoch: int, kind: int, seq: int) -> None:
    at = place(epoch, kind, seq)
    assert place(epoch, kind) < at < place(epoch, kind + 1) <= place(epoch + 1, 0)
    assert at < 2**63
    assert (epoch_no_of(at), at - place(epoch, kind)) == (epoch, seq)


@given(st.integers(1, 2**15 - 1), st.sampled_from(list(CLASS_NUMBERS.values())), st.integers(1, SEQ_MASK))
def test_people_see_the_place_in_its_parts(epoch: int, kind: int, seq: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create_journal(connection)
        connection.execute("INSERT INTO event (place, body) VALUES (?, x'00')", (place(epoch, kind, seq),))
        assert connection.execute("SELECT epoch_no, class, seq FROM event").fetchone() == (epoch, kind, seq)
    finally:
        connection.close()


@pytest.mark.parametrize(("row", "gap", "cursor"), [(7, 3, 2), (3, 7, 2), (2, 3, 7), (0, 0, 7), (0, 7, 0), (7, 0, 0)])
def test_the_highest_number_is_remembered_by_whatever_is_left(
    sql: sqlite3.Connection, row: int, gap: int, cursor: int
) -> None:
    sql.execute("INSERT INTO event (place, body) VALUES (?, x'00')", (place(1, 2, 99),))
    if row:
        sql.execute("INSERT INTO event (place, body) VALUES (?, x'00')", (place(1, 1, row),))
    if gap:
        sql.execute("INSERT INTO gap VALUES (1, 1, 1, ?, 1, 'space')", (gap,))
    if cursor:
        sql.execute("INSERT INTO cursor VALUES ('hub', 1, 1, 1, ?)", (cursor,))
    assert last_seq(sql, 1, 1) == 7


def test_a_fact_is_replaced_whole(sql: sqlite3.Connection) -> None:
    assert read_fact(sql, "issuers") is None
    for value in ("one", "two"):
        write_fact(sql, "issuers", value)
    assert read_fact(sql, "issuers") == "two"
