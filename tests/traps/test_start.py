"""A start with a long spool: AWS Greengrass read 26,500 messages before it served anybody, for five minutes."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from agents import processes
from agents.demo_broker import free_port
from agents.site import Site, make_keys, write_settings
from edge.schema_sql import AUDIT, STATE, TELEMETRY, place

SPOOLED = 26_500
SLOWER = 1.0
"""Seconds that the spool may add to a start; the goal for the whole start is 2 s on a quiet machine (benchmarks)."""


def start(site: Site) -> float:
    """Seconds from ``lastmile run locker`` to READY=1, as the service manager is told."""
    address = site.directory / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (site.directory / "log").open("ab") as out:
        manager.bind(str(address))
        manager.settimeout(30.0)
        command = [*processes.COMMAND, "run", "locker", "--config", str(site.node_toml)]
        began = time.monotonic()
        environ = dict(os.environ, NOTIFY_SOCKET=str(address))
        with subprocess.Popen(command, stdout=out, stderr=out, env=environ) as agent:
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
                return time.monotonic() - began
            finally:
                agent.terminate()


def spool(database: Path) -> None:
    """Rows as the journal keeps them, acknowledged by nobody."""
    sql = sqlite3.connect(database, isolation_level=None)
    ((number, last),) = sql.execute("SELECT max(epoch_no), max(seq) FROM event WHERE class = 0").fetchall()
    for kind in (AUDIT, STATE, TELEMETRY):
        sql.execute(
            """WITH RECURSIVE n(seq) AS (SELECT ?1 + 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1 + ?2)
               INSERT INTO event (place, body, hash) SELECT ?3 + seq, randomblob(400), randomblob(32) FROM n""",
            (last, SPOOLED // 3, place(number, kind)),
        )
    ((rows,),) = sql.execute("SELECT count(*) FROM event").fetchall()
    assert rows >= SPOOLED
    sql.close()


@pytest.mark.serial
def test_26500_spooled_messages_do_not_hold_up_a_start(tmp_path):
    site = Site(tmp_path)
    make_keys(site, wall=time.time())
    write_settings(
        site, broker_port=free_port(), kiosk_port=free_port(), protocol="5", subscribe="plain", uid=os.getuid()
    )
    start(site)  # makes the database, and warms what the disk has to give
    empty = start(site)
    spool(site.database)
    full = start(site)
    assert full <= empty + SLOWER
