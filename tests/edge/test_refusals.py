"""A flood of refused input is one number a reason: in the event of the minute and in what can be scraped."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from edge.health_http import CountedBy
from edge.refusals import RefusalMeter, Refused


def test_each_look_tells_what_is_new_by_reason_and_nothing_twice() -> None:
    commands, documents = {"bad_signature": 1000}, {"not_newer": 1}
    meter = RefusalMeter({"command": commands, "document": documents})
    assert meter.news() == [Refused("command", "bad_signature", 1000), Refused("document", "not_newer", 1)]
    assert meter.news() == []
    commands["bad_signature"] += 2
    commands["wrong_audience"] = 1
    assert meter.news() == [Refused("command", "bad_signature", 2), Refused("command", "wrong_audience", 1)]


def test_totals_are_scraped_by_kind_and_reason() -> None:
    meter = RefusalMeter({"command": {"bad_signature": 3}})
    registry = CollectorRegistry()
    registry.register(CountedBy("lastmile_input_refused", "Refused.", meter.totals))
    meter.news()
    text = generate_latest(registry).decode()
    assert 'lastmile_input_refused_total{reason="bad_signature",what="command"} 3.0' in text
