"""What a bad line makes of frames, for the tests of every codec."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence


def rubbish(seed: int, size: int, frames: Sequence[bytes]) -> Iterator[bytes]:
    """About ``size`` bytes: random ones, bytes of the protocol's own values, and frames with holes, in odd portions."""
    chance = random.Random(seed)
    values = b"".join(frames)
    while size > 0:
        count = chance.randrange(1, 400)
        portion = chance.choice(
            [
                chance.randbytes(count),
                bytes(chance.choices(values, k=count)),
                bytes(byte for byte in b"".join(chance.choices(frames, k=count // 7)) if chance.random() > 0.02),
            ]
        )
        size -= len(portion)
        yield portion


def damages(frame: bytes) -> Iterator[bytes]:
    """``frame`` with any one byte lost, doubled, or replaced by any other."""
    for at, byte in enumerate(frame):
        yield frame[:at] + frame[at + 1 :]
        yield frame[:at] + bytes([byte]) + frame[at:]
        yield from (frame[:at] + bytes([other]) + frame[at + 1 :] for other in range(256) if other != byte)


def with_losses(frame: bytes, most: int) -> Iterator[bytes]:
    """``frame`` with any 1 to ``most`` of its bytes lost."""
    for lost in range(1, most + 1):
        for places in itertools.combinations(range(len(frame)), lost):
            yield bytes(byte for at, byte in enumerate(frame) if at not in places)


def lossy(seed: str, frame: bytes, times: int) -> Iterable[bytes]:
    """``frame`` over a line that loses a tenth of all bytes."""
    chance = random.Random(seed)
    for _ in range(times):
        yield bytes(byte for byte in frame if chance.random() > 0.1)
