"""Against a hostile broker, every promise holds; and with any one check taken away, a promise is seen to break."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import consumer_scenes, downlink_scenes, node_scenes
from tests.hostile.consumer import consumer
from tests.hostile.removals import REMOVALS, without
from tests.hostile.street import street

Scene = Callable[[Any], Awaitable[None]]


def _scenes(module: Any) -> list[Scene]:
    """The scenes of a module in the order they are told."""
    found = inspect.getmembers(module, inspect.iscoroutinefunction)
    return [scene for name, scene in found if not name.startswith("_") and scene.__module__ == module.__name__]


@pytest.mark.parametrize("scene", _scenes(consumer_scenes), ids=lambda scene: scene.__name__)
async def test_a_consumer_holds_only_what_is_true(scene: Scene, tmp_path: Path):
    async with consumer(tmp_path) as whole:
        await scene(whole)


CONSUMER_CHECKS = [
    ("seal's key", consumer_scenes.a_chain_with_the_forgers_own_key),
    ("seal's signature", consumer_scenes.a_chain_under_the_role_keys_name),
    ("seal's signature", consumer_scenes.a_chain_in_an_epoch_of_its_own),
    ("seal's signature", consumer_scenes.a_seal_has_a_byte_changed),
    ("seal's spelling", consumer_scenes.a_seal_is_spelt_otherwise),
    ("chain", consumer_scenes.forged_rows_stand_first_at_every_number),
    ("chain", consumer_scenes.every_event_has_a_byte_changed),
    ("join", consumer_scenes.a_second_history_under_the_role_key),
    ("epoch is proven", consumer_scenes.state_of_an_invented_epoch),
    ("conflict is kept", consumer_scenes.another_row_for_a_held_number),
    ("source", consumer_scenes.events_of_another_node),
    ("tenant", consumer_scenes.events_from_another_tenants_topic),
    ("class", consumer_scenes.events_of_another_class),
    ("audit is never dropped", consumer_scenes.audit_said_to_be_dropped),
    ("bound of epochs", consumer_scenes.a_flood_of_invented_epochs),
    ("bound of rivals", consumer_scenes.a_flood_of_rows_for_one_number),
    ("horizon", consumer_scenes.a_row_far_beyond_any_seal),
    ("size of an event", consumer_scenes.an_oversized_event),
    ("size of a batch", consumer_scenes.a_batch_of_too_many),
    ("result is the node's", consumer_scenes.a_forged_result),
    ("result is the command's", consumer_scenes.a_true_result_under_another_command),
    ("signature", consumer_scenes.a_forged_result),
    ("newer presence", consumer_scenes.an_older_presence),
]


@pytest.mark.parametrize(("check", "scene"), CONSUMER_CHECKS, ids=lambda each: getattr(each, "__name__", each))
async def test_without_the_check_the_consumer_is_deceived(check: str, scene: Scene, tmp_path: Path):
    async with consumer(tmp_path) as weakened:
        with without(check), pytest.raises(AssertionError):
            await scene(weakened)


@pytest.mark.parametrize("scene", [*_scenes(node_scenes), *_scenes(downlink_scenes)], ids=lambda scene: scene.__name__)
async def test_a_node_believes_and_does_only_what_is_signed_for_it(scene: Scene, tmp_path: Path):
    async with street(tmp_path) as whole:
        await scene(whole)


NODE_CHECKS = [
    ("key is listed", node_scenes.an_ack_by_an_unlisted_key),
    ("signature", node_scenes.an_ack_under_a_listed_keys_name),
    ("type", node_scenes.an_ack_that_is_signed_as_something_else),
    ("algorithm", node_scenes.an_ack_by_another_algorithm),
    ("scope", node_scenes.an_ack_without_the_scope),
    ("node pattern", node_scenes.an_ack_by_a_key_for_other_nodes),
    ("revocation", node_scenes.an_ack_by_a_revoked_key),
    ("validity", node_scenes.an_ack_by_an_expired_key),
    ("issuer's name", node_scenes.an_ack_in_another_consumers_name),
    ("audience", node_scenes.an_ack_for_another_node),
    ("audience", node_scenes.an_ack_for_an_earlier_instance),
    ("configured consumer", node_scenes.an_ack_of_nobodys_consumer),
    ("hash of the ack", node_scenes.the_right_seq_with_a_wrong_hash),
    ("bound of the ack", node_scenes.a_seq_above_our_last),
    ("epoch of the ack", node_scenes.an_epoch_that_is_not_ours),
    ("cursor only rises", node_scenes.an_old_ack_comes_again),
    ("key is listed", node_scenes.a_command_by_an_unlisted_key),
    ("signature", node_scenes.a_command_under_a_listed_keys_name),
    ("type", node_scenes.a_command_that_is_signed_as_something_else),
    ("scope", node_scenes.a_command_without_the_scope),
    ("node pattern", node_scenes.a_command_by_a_key_for_other_nodes),
    ("revocation", node_scenes.a_command_by_a_revoked_key),
    ("validity", node_scenes.a_command_by_an_expired_key),
    ("issuer's name", node_scenes.a_command_in_anothers_name),
    ("audience", node_scenes.a_command_for_another_node),
    ("nonce was given out", node_scenes.a_nonce_that_nobody_gave),
    ("nonce is used once", node_scenes.a_nonce_used_twice),
    ("nonce is for the door", node_scenes.a_nonce_for_another_door),
    ("nonce is for the key", node_scenes.a_nonce_of_another_person),
    ("nonce is young", node_scenes.a_nonce_that_is_over_a_minute_old),
    ("nonce requests rise", node_scenes.an_old_nonce_request_comes_again),
    ("door is the subject", node_scenes.arguments_that_name_another_door),
    ("session", node_scenes.a_nonce_request_of_an_earlier_run),
    ("id is spent", node_scenes.a_command_comes_again),
    ("id belongs to its content", node_scenes.another_command_under_a_spent_id),
    ("retained command", node_scenes.a_retained_command),
    ("topic of this node", node_scenes.a_command_on_another_nodes_topic),
    ("size on the node", node_scenes.an_oversized_command),
    ("pinned root", node_scenes.issuers_of_a_foreign_root),
    ("signature", node_scenes.issuers_under_the_roots_name),
    ("newer version", node_scenes.an_older_edition_of_the_issuers),
    ("two persons", downlink_scenes.one_person_alone_declares_a_door_empty),
    ("different persons", downlink_scenes.one_person_signs_with_two_keys),
    ("second signature", downlink_scenes.a_second_signature_that_is_none),
    ("key is listed", downlink_scenes.a_second_signature_of_a_stranger),
    ("scope", downlink_scenes.a_second_person_without_the_scope),
    ("one spelling", downlink_scenes.a_command_of_two_is_spelt_otherwise),
    ("known by its first signature", downlink_scenes.a_signature_is_taken_off_a_command_of_two),
    ("half a command spends no id", downlink_scenes.a_signature_is_taken_off_a_command_of_two),
    ("revision rises", downlink_scenes.an_older_revision_comes_late),
    ("revision is spent", downlink_scenes.an_older_revision_comes_late),
    ("booking expires", downlink_scenes.a_booking_is_kept_back_past_its_expiry),
    ("booking's wait is bounded", downlink_scenes.a_booking_for_ten_years),
    ("newer desired", downlink_scenes.an_older_desired_comes_again),
    ("whole or not at all", downlink_scenes.a_desired_with_one_bad_member),
    ("key is listed", downlink_scenes.a_desired_by_an_unlisted_key),
    ("scope", downlink_scenes.a_desired_without_the_scope),
    ("audience", downlink_scenes.a_desired_for_another_node),
    ("type", downlink_scenes.a_desired_that_is_signed_as_something_else),
    ("signature", downlink_scenes.a_desired_under_a_listed_keys_name),
    ("revocation", downlink_scenes.a_desired_by_a_revoked_key),
    ("node pattern", downlink_scenes.a_desired_by_a_key_for_other_nodes),
]


@pytest.mark.parametrize(("check", "scene"), NODE_CHECKS, ids=lambda each: getattr(each, "__name__", each))
async def test_without_the_check_the_node_is_deceived(check: str, scene: Scene, tmp_path: Path):
    async with street(tmp_path) as weakened:
        # An id that is taken twice is stopped by the table's own key; that is a broken promise all the same.
        with without(check), pytest.raises((AssertionError, sqlite3.IntegrityError)):
            await scene(weakened)


def test_every_check_is_taken_away_once():
    """A removal that no scene uses would be a check that nobody watches."""
    assert {check for check, _ in [*CONSUMER_CHECKS, *NODE_CHECKS]} == set(REMOVALS)
