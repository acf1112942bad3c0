"""Topics are built and read in one place, and nothing else is let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.topics import Kind, NodeTopics, Topic, consumer_probe, parse, shared
from edge.errors import ConfigError, ProtocolError
from edge.event import EventClass

ROOT = "lm/v1/acme/acme_l1"
NAMES = st.from_regex(r"[a-z0-9-]{1,48}", fullmatch=True)


@pytest.mark.parametrize(
    ("topic", "kind", "name"),
    [
        ("presence", Kind.PRESENCE, ""),
        ("evt/audit", Kind.EVENT, "audit"),
        ("evt/telemetry/batch", Kind.BATCH, "telemetry"),
        ("live/fix", Kind.LIVE, "fix"),
        ("ack/cloud", Kind.ACK, "cloud"),
        ("cmd/open", Kind.COMMAND, "open"),
        ("res/018f0000-0000-7000-8000-000000000001", Kind.RESULT, "018f0000-0000-7000-8000-000000000001"),
        ("desired", Kind.DESIRED, ""),
        ("issuers", Kind.ISSUERS, ""),
        ("reported", Kind.REPORTED, ""),
        ("probe", Kind.PROBE, ""),
    ],
)
def test_every_topic_of_the_contract(topic, kind, name):
    assert parse(f"{ROOT}/{topic}") == Topic("acme", "acme_l1", kind, name)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "lm/v1/acme/acme_l1",
        "lm/v2/acme/acme_l1/presence",
        "lm/v1/other/acme_l1/presence",
        "lm/v1/acme/acme/presence",
        "lm/v1/acme/acme_l1_x/presence",
        "lm/v1/acme/acme_L1/presence",
        "lm/v1/acme/acme_l1/presence/x",
        "lm/v1/acme/acme_l1/evt",
        "lm/v1/acme/acme_l1/evt/weather",
        "lm/v1/acme/acme_l1/evt/audit/batch/x",
        "lm/v1/acme/acme_l1/evt/audit/",
        "lm/v1/acme/acme_l1/cmd/",
        "lm/v1/acme/acme_l1/cmd/open\n",
        "lm/v1/acme/acme_l1/cmd/\u0661",
        "lm/v1/acme/acme_l1/cmd/" + "a" * 49,
        "lm/v1/acme/_probe/collector",
        "$share/g/lm/v1/acme/acme_l1/presence",
    ],
)
def test_anything_else_is_refused(topic):
    with pytest.raises(ProtocolError):
        parse(topic)


@given(st.text(max_size=80))
def test_any_text_is_a_topic_or_a_protocol_error(text):
    with pytest.raises(ProtocolError):
        parse(text)


@given(NAMES, NAMES, NAMES, st.sampled_from(EventClass))
def test_what_is_built_is_read_back(tenant, name, word, event_class):
    node = f"{tenant}_{name}"
    topics = NodeTopics(tenant, node)
    assert parse(topics.event(event_class)) == Topic(tenant, node, Kind.EVENT, event_class.value)
    assert parse(topics.batch(event_class)) == Topic(tenant, node, Kind.BATCH, event_class.value)
    for built, kind in (
        (topics.live(word), Kind.LIVE),
        (topics.ack(word), Kind.ACK),
        (topics.command(word), Kind.COMMAND),
        (topics.result(word), Kind.RESULT),
    ):
        assert parse(built) == Topic(tenant, node, kind, word)
    # AWS IoT takes at most seven slashes.
    assert max(topic.count("/") for topic in (topics.batch(event_class), topics.result(word))) <= 7


@pytest.mark.parametrize(("tenant", "node"), [("acme", "other_l1"), ("acme", "acme"), ("", "_x"), ("a+", "a+_x")])
def test_a_node_of_another_tenant_has_no_topics(tenant, node):
    with pytest.raises(ConfigError):
        NodeTopics(tenant, node)


def test_a_name_cannot_bring_wildcards_or_levels_into_a_topic():
    topics = NodeTopics("acme", "acme_l1")
    for build in (topics.live, topics.ack, topics.command, topics.result, lambda name: shared(name, "x")):
        for name in ("+", "#", "a/b", "", "A"):
            with pytest.raises(ProtocolError):
                build(name)


def test_no_node_can_have_a_consumers_probe():
    with pytest.raises(ProtocolError):
        parse(consumer_probe("acme", "collector-1"))
