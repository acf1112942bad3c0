"""By check of ``tests.hostile.removals``, the scenes in which a red team without it gets somewhere.

What is not here only the in-process scenes of ``tests/hostile`` bring about: a broker that delivers what nobody
subscribed to, a consumer that is flooded beyond its bounds.
"""

from __future__ import annotations

from tests.redteam import scenes_commands as commands
from tests.redteam import scenes_consumer as consumer
from tests.redteam import scenes_documents as documents
from tests.redteam import scenes_lives as lives
from tests.redteam.run import Scene

WITHOUT: dict[str, tuple[Scene, ...]] = {
    "signature": (commands.a_living_nonce_is_used_by_others,),
    "algorithm": (commands.an_insider_says_it_wrong_in_every_way,),
    "type": (commands.an_insider_says_it_wrong_in_every_way,),
    "key is listed": (commands.every_stolen_key_tries_by_itself,),
    "scope": (commands.every_stolen_key_tries_by_itself,),
    "node pattern": (commands.every_stolen_key_tries_by_itself,),
    "revocation": (commands.every_stolen_key_tries_by_itself,),
    "validity": (commands.every_stolen_key_tries_by_itself,),
    "issuer's name": (commands.an_insider_says_it_wrong_in_every_way,),
    "audience": (commands.an_insider_says_it_wrong_in_every_way,),
    "door is the subject": (commands.an_insider_says_it_wrong_in_every_way,),
    "nonce is used once": (commands.an_insider_says_it_wrong_in_every_way,),
    "nonce is for the door": (commands.an_insider_says_it_wrong_in_every_way,),
    "id belongs to its content": (commands.an_insider_says_it_wrong_in_every_way,),
    "nonce is for the key": (commands.a_living_nonce_is_used_by_others,),
    "nonce was given out": (commands.nonces_are_guessed,),
    "nonce is young": (commands.the_word_comes_late,),
    "nonce requests rise": (commands.old_requests_come_again_and_void_nothing,),
    "session": (commands.a_nonce_request_of_an_earlier_run,),
    "id is spent": (commands.every_recording_comes_again,),
    "two persons": (commands.two_signatures_are_played_with,),
    "different persons": (commands.two_signatures_are_played_with,),
    "second signature": (commands.two_signatures_are_played_with,),
    "one spelling": (commands.two_signatures_are_played_with,),
    "retained command": (commands.nonces_are_guessed,),
    "revision rises": (documents.revisions_are_poisoned_and_come_late,),
    "revision is spent": (documents.revisions_are_poisoned_and_come_late,),
    "booking expires": (documents.revisions_are_poisoned_and_come_late,),
    "booking's wait is bounded": (documents.revisions_are_poisoned_and_come_late,),
    "epoch of the ack": (documents.a_consumer_that_was_deceived_frees_nothing,),
    "cursor only rises": (documents.acks_are_forged_while_the_true_ones_are_kept_back,),
    "hash of the ack": (documents.a_consumer_that_was_deceived_frees_nothing,),
    "newer desired": (documents.hostile_wishes_change_nothing,),
    "whole or not at all": (documents.hostile_wishes_change_nothing,),
    "pinned root": (documents.issuers_of_other_roots_and_older_editions,),
    "newer version": (documents.issuers_of_other_roots_and_older_editions,),
    "chain": (consumer.the_present_is_told_before_the_node_tells_it,),
    "seal's signature": (consumer.a_history_is_sealed_by_other_keys,),
    "seal's key": (consumer.the_present_is_told_before_the_node_tells_it,),
    "seal's spelling": (consumer.the_present_is_told_before_the_node_tells_it,),
    "conflict is kept": (consumer.the_consumer_is_told_another_story,),
    "source": (consumer.events_come_under_another_name_or_class,),
    "class": (consumer.events_come_under_another_name_or_class,),
    "epoch is proven": (consumer.events_come_under_another_name_or_class,),
    "audit is never dropped": (consumer.audit_is_said_to_be_thinned,),
    "result is the node's": (consumer.presence_and_results_are_forged,),
    "result is the command's": (consumer.presence_and_results_are_forged,),
    "newer presence": (consumer.presence_is_poisoned,),
    "join": (lives.a_copied_card_lives_beside_the_node,),
    "configured consumer": (consumer.a_consumer_that_the_node_has_not_says_what_it_holds,),
}
