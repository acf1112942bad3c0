"""The machine can fail: each of these small defects, put into the product, makes it do so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloud_sync import collector_settle_sql, pump
from edge.acks import Ack
from edge.journal_keep_sql import apply_ack
from tests.conservation.test_whole_way import LOADED, run

pytestmark = pytest.mark.timeout(LOADED)


def test_an_event_that_the_pump_drops_is_missed(monkeypatch):
    whole = pump.Pump._runs

    def dropping(self: pump.Pump, stream: Any, bodies: Any) -> Any:
        return whole(self, stream, [body for body in bodies if b'"data":{"n":3}' not in body])

    monkeypatch.setattr(pump.Pump, "_runs", dropping)
    with pytest.raises(AssertionError, match="never got"):
        run(1)


def test_an_ack_that_is_believed_whatever_its_hash_is_noticed(monkeypatch):
    def believing(transaction: Any, consumer: str, ack: Ack) -> Any:
        journals = {}
        for epoch, classes in ack.journals.items():
            seq, claimed = classes.get("audit", (0, None))
            row = transaction.sql.execute(
                "SELECT hash FROM event JOIN epoch ON epoch.no = epoch_no WHERE id = ? AND class = 0 AND seq = ?",
                (epoch, seq),
            ).fetchone()
            journals[epoch] = {**classes, "audit": (seq, row[0].hex() if row else claimed)} if seq else classes
        return apply_ack(transaction, consumer, msgspec.structs.replace(ack, journals=journals))

    monkeypatch.setattr("edge.link_desk_sql.apply_ack", believing)
    with pytest.raises(AssertionError, match="the node's cursor"):
        run(1)


def test_a_consumer_that_signs_for_what_no_seal_has_proven_is_noticed(monkeypatch):
    whole = collector_settle_sql.Settling.settle

    def hasty(self: collector_settle_sql.Settling, *, ask_all: bool) -> Any:
        standing = whole(self, ask_all=ask_all)
        pending = self._sql.exec_driver_sql(
            """SELECT stream.epoch, max(event.seq), hex(event.digest) FROM event JOIN stream ON stream.id = stream
               WHERE source = ? AND class = 'audit' GROUP BY stream.epoch""",
            (self._source,),
        )
        for epoch, seq, digest in pending.fetchall():
            standing.journals.setdefault(epoch, {})["audit"] = (seq, digest.lower())
        return standing

    monkeypatch.setattr(collector_settle_sql.Settling, "settle", hasty)
    with pytest.raises(AssertionError, match="the node's cursor"):
        run(1)
