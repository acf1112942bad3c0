"""The kernel's FUSE protocol as far as a small file system needs it (linux/fuse.h, 7.31): bytes in, bytes out."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple


class Op(enum.IntEnum):
    """What the kernel asks. The numbers are the protocol's."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45


UNANSWERED = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})
ROOT = 1
"""Node id of the mounted directory."""
MAX_WRITE = 128 * 1024
BUFFER = MAX_WRITE + 64 * 1024
"""For one request; the kernel wants room for its header beside the largest write."""
SET_MODE, SET_SIZE = 1 << 0, 1 << 3
_BIG_WRITES = 1 << 5
_KEEP_CACHE = 1 << 1
_FROM_CACHE = 1 << 0
_LONG_S = 3600
"""Nobody but this kernel changes the files, so what it knows of them stays true."""

_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")


class Request(NamedTuple):
    op: Op | int
    unique: int
    node: int
    body: bytes


def read_request(data: bytes) -> Request:
    _, code, unique, node, *_ = _HEADER.unpack_from(data)
    op = Op(code) if code in Op._value2member_map_ else code
    return Request(op, unique, node, data[_HEADER.size :])


def answer(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    """``error`` is an errno; the protocol wants it negative."""
    return _ANSWER.pack(_ANSWER.size + len(body), -error, unique) + body


def init(body: bytes) -> bytes:
    """Neither write-back cache nor large pages: each write comes here when it is made."""
    _, _, readahead, _ = struct.unpack_from("<4I", body)
    return _INIT_OUT.pack(7, 31, readahead, _BIG_WRITES, 16, 12, MAX_WRITE, 1, 0, 0, 0)


class Attr(NamedTuple):
    node: int
    mode: int
    size: int

    def packed(self) -> bytes:
        links = 1
        blocks = -(-self.size // 512)
        return _ATTR.pack(self.node, self.size, blocks, 0, 0, 0, 0, 0, 0, self.mode, links, 0, 0, 0, 4096, 0)


def entry(attr: Attr) -> bytes:
    return struct.pack("<4QII", attr.node, 0, _LONG_S, _LONG_S, 0, 0) + attr.packed()


def attributes(attr: Attr) -> bytes:
    return struct.pack("<QII", _LONG_S, 0, 0) + attr.packed()


def opened(handle: int) -> bytes:
    """The kernel keeps what it has of the file in memory: else each opening would drop the pages that are mapped."""
    return struct.pack("<QII", handle, _KEEP_CACHE, 0)


def written(size: int) -> bytes:
    return struct.pack("<II", size, 0)


def space(blocks: int, free: int, files: int) -> bytes:
    """Blocks of 4096 bytes."""
    return struct.pack("<5Q4I24x", blocks, free, free, files, 1 << 20, 4096, 255, 4096, 0)


def listing(entries: list[tuple[int, str, bool]], offset: int, size: int) -> bytes:
    """(node, name, is a directory), from the ``offset``-th on, as many as fit into ``size`` bytes."""
    found = b""
    for number, (node, name, directory) in enumerate(entries):
        if number < offset:
            continue
        raw = name.encode()
        one = struct.pack("<QQII", node, number + 1, len(raw), 4 if directory else 8) + raw
        one += bytes(-len(one) % 8)
        if len(found) + len(one) > size:
            break
        found += one
    return found


def names(body: bytes) -> list[str]:
    return [part.decode() for part in body.split(b"\0")[:-1]]


def created(body: bytes) -> tuple[int, str]:
    """(mode, name) of CREATE."""
    _, mode, _, _ = struct.unpack_from("<4I", body)
    return mode, names(body[16:])[0]


def made(body: bytes) -> tuple[int, str]:
    """(mode, name) of MKDIR."""
    mode, _ = struct.unpack_from("<2I", body)
    return mode, names(body[8:])[0]


def renamed(op: Op | int, body: bytes) -> tuple[int, str, str]:
    """(new directory, old name, new name)."""
    (directory,) = struct.unpack_from("<Q", body)
    old, new = names(body[16 if op == Op.RENAME2 else 8 :])
    return directory, old, new


def changed(body: bytes) -> tuple[int, int, int]:
    """(what is set, size, mode) of SETATTR."""
    valid, _, _, size = struct.unpack_from("<IIQQ", body)
    (mode,) = struct.unpack_from("<I", body, 68)
    return valid, size, mode


def handle(body: bytes) -> int:
    """What OPEN or CREATE had answered, of FSYNC and RELEASE."""
    return int.from_bytes(body[:8], "little")


def reading(body: bytes) -> tuple[int, int]:
    """(offset, size) of READ and READDIR."""
    _, offset, size = struct.unpack_from("<QQI", body)
    return offset, size


def writing(body: bytes) -> tuple[int, bytes, bool]:
    """(offset, data, whether the kernel writes back a mapped page that nobody waits for)."""
    _, offset, size, flags = struct.unpack_from("<QQII", body)
    return offset, body[40 : 40 + size], bool(flags & _FROM_CACHE)


def allocated(body: bytes) -> tuple[int, int]:
    """(offset, length) of FALLOCATE."""
    _, offset, length = struct.unpack_from("<QQQ", body)
    return offset, length
