"""A disk that forgets what was not synced: a FUSE file system in memory, with power cuts and faults on demand.

What is modelled. A write is lost at a power cut unless the file was synced since, each block of 4 KiB by itself: the
kernel may have written any of them back, in any order. A new name, a renaming or a removal is lost unless its directory
was synced since; such changes reach the disk in their order, so the first few of them may be there and the others not.
Syncing a file does not keep its name: POSIX does not promise it. A sync that failed leaves nothing behind, and the
blocks it should have written are not written by a later one either unless they are put anew, as Linux does it. It is
told once to each who has the file open then. Of a directory it keeps no change, and a later one does.

Not modelled: torn blocks, bits that rot, disks that lie about a sync.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import itertools
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

from locker.sim_control_socket import Answer, served
from tests.faults import fuse, linux
from tests.faults.fuse import Attr, Op, Request

BLOCK = 4096
CAPACITY = 64 * 1024 * 1024
"""Bytes of the disk."""


@dataclasses.dataclass
class File:
    """``kept`` is what a power cut leaves of ``data``."""

    node: int
    mode: int
    data: bytearray = dataclasses.field(default_factory=bytearray)
    kept: bytearray = dataclasses.field(default_factory=bytearray)
    dirty: set[int] = dataclasses.field(default_factory=set)
    """Numbers of blocks that a sync has to write."""
    handles: set[int] = dataclasses.field(default_factory=set)
    """Of those who have it open."""
    unheard: set[int] = dataclasses.field(default_factory=set)
    """Of those who were not told yet that a sync of somebody else has failed."""

    def put(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset + len(data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.dirty.update(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))

    def resize(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def sync(self) -> None:
        self._write_back(self.dirty)
        del self.kept[len(self.data) :]
        self.kept.extend(bytes(len(self.data) - len(self.kept)))

    def lose_sync(self, handle: int) -> None:
        """The sync through ``handle`` failed: the kernel thinks no more of what it should have written."""
        self.dirty.clear()
        self.unheard = self.handles - {handle}

    def cut(self, chance: Callable[[], bool]) -> None:
        """Some blocks were written back by themselves; the rest of what was not synced is gone."""
        self._write_back({block for block in sorted(self.dirty) if chance()})
        if len(self.data) < len(self.kept) and chance():
            del self.kept[len(self.data) :]
        self.data, self.dirty = bytearray(self.kept), set()
        self.handles, self.unheard = set(), set()

    def _write_back(self, blocks: set[int]) -> None:
        for block in blocks:
            start, piece = block * BLOCK, self.data[block * BLOCK : (block + 1) * BLOCK]
            if not piece:
                continue
            if len(self.kept) < start + len(piece):
                self.kept.extend(bytes(start + len(piece) - len(self.kept)))
            self.kept[start : start + len(piece)] = piece
        self.dirty = self.dirty - blocks


@dataclasses.dataclass
class Directory:
    """``changes`` are those that no sync has kept yet, oldest first; None takes a name away."""

    node: int
    mode: int
    names: dict[str, int] = dataclasses.field(default_factory=dict)
    kept: dict[str, int] = dataclasses.field(default_factory=dict)
    changes: list[dict[str, int | None]] = dataclasses.field(default_factory=list)

    def change(self, change: dict[str, int | None]) -> None:
        self.changes.append(change)
        _apply(self.names, change)

    def sync(self) -> None:
        self.kept, self.changes = dict(self.names), []

    def cut(self, survivors: int) -> None:
        for change in self.changes[:survivors]:
            _apply(self.kept, change)
        self.names, self.changes = dict(self.kept), []


def _apply(names: dict[str, int], change: dict[str, int | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """Answers the kernel. ``room`` is what may lie on it in bytes; ``failing`` counts the next calls that fail."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.nodes: dict[int, File | Directory] = {fuse.ROOT: Directory(fuse.ROOT, stat.S_IFDIR | 0o700)}
        self.room = CAPACITY
        self.failing = {"write": 0, "sync": 0, "names": 0, "read": 0}
        """``sync`` is of either, ``names`` of directories alone."""
        self.syncs = 0
        self._handles = itertools.count(1)
        self._ops: dict[Op | int, Callable[[Request], bytes]] = {
            Op.INIT: lambda request: fuse.init(request.body),
            Op.LOOKUP: lambda request: fuse.entry(self._attr(self._named(request.node, fuse.names(request.body)[0]))),
            Op.GETATTR: lambda request: fuse.attributes(self._attr(request.node)),
            Op.SETATTR: self._set,
            Op.MKDIR: self._mkdir,
            Op.UNLINK: self._remove,
            Op.RMDIR: self._remove,
            Op.RENAME: self._rename,
            Op.RENAME2: self._rename,
            Op.CREATE: self._create,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.FALLOCATE: self._allocate,
            Op.FSYNC: self._sync,
            Op.FSYNCDIR: self._sync,
            Op.READDIR: self._list,
            Op.STATFS: self._space,
            Op.OPEN: lambda request: self._open(request.node),
            Op.RELEASE: self._release,
            Op.OPENDIR: lambda request: fuse.opened(request.node),
            **dict.fromkeys((Op.RELEASEDIR, Op.FLUSH), lambda _: b""),
        }

    def answer(self, request: Request) -> bytes | None:
        """The bytes for the kernel; None where it expects none."""
        if request.op in fuse.UNANSWERED:
            return None
        act = self._ops.get(request.op)
        if act is None:
            return fuse.answer(request.unique, error=errno.ENOSYS)
        try:
            return fuse.answer(request.unique, act(request))
        except OSError as error:
            return fuse.answer(request.unique, error=error.errno or errno.EIO)

    def cut(self, survival: float) -> None:
        """The power goes. Each block and each change of a name that was not synced survives with ``survival``."""
        for node in list(self.nodes.values()):
            if isinstance(node, Directory):
                node.cut(sum(self.chance.random() < survival for _ in node.changes))
            else:
                node.cut(lambda: self.chance.random() < survival)

    # -- the calls -----------------------------------------------------------------------------------------------------

    def _directory(self, node: int) -> Directory:
        found = self.nodes[node]
        if not isinstance(found, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return found

    def _file(self, node: int) -> File:
        found = self.nodes[node]
        if not isinstance(found, File):
            raise IsADirectoryError(errno.EISDIR, "a directory")
        return found

    def _named(self, directory: int, name: str) -> int:
        try:
            return self._directory(directory).names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, name) from None

    def _attr(self, node: int) -> Attr:
        found = self.nodes[node]
        return Attr(node, found.mode, len(found.data) if isinstance(found, File) else BLOCK)

    def _add(self, directory: int, name: str, made: File | Directory) -> bytes:
        self.nodes[made.node] = made
        self._directory(directory).change({name: made.node})
        return fuse.entry(self._attr(made.node))

    def _mkdir(self, request: Request) -> bytes:
        mode, name = fuse.made(request.body)
        return self._add(request.node, name, Directory(len(self.nodes) + 1, stat.S_IFDIR | mode & 0o7777))

    def _create(self, request: Request) -> bytes:
        mode, name = fuse.created(request.body)
        number = len(self.nodes) + 1
        return self._add(request.node, name, File(number, stat.S_IFREG | mode & 0o7777)) + self._open(number)

    def _open(self, node: int) -> bytes:
        handle = next(self._handles)
        self._file(node).handles.add(handle)
        return fuse.opened(handle)

    def _release(self, request: Request) -> bytes:
        file, handle = self._file(request.node), fuse.handle(request.body)
        file.handles.discard(handle)
        file.unheard.discard(handle)
        return b""

    def _remove(self, request: Request) -> bytes:
        (name,) = fuse.names(request.body)
        self._named(request.node, name)
        self._directory(request.node).change({name: None})
        return b""

    def _rename(self, request: Request) -> bytes:
        target, old, new = fuse.renamed(request.op, request.body)
        node = self._named(request.node, old)
        if target == request.node:
            self._directory(target).change({old: None, new: node})
        else:
            self._directory(target).change({new: node})
            self._directory(request.node).change({old: None})
        return b""

    def _set(self, request: Request) -> bytes:
        what, size, mode = fuse.changed(request.body)
        node = self.nodes[request.node]
        if what & fuse.SET_SIZE:
            file = self._file(request.node)
            self._need(size - len(file.data))
            file.resize(size)
        if what & fuse.SET_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return fuse.attributes(self._attr(request.node))

    def _read(self, request: Request) -> bytes:
        self._fail("read")
        offset, size = fuse.reading(request.body)
        return bytes(self._file(request.node).data[offset : offset + size])

    def _write(self, request: Request) -> bytes:
        offset, data, mapped = fuse.writing(request.body)
        file = self._file(request.node)
        if not mapped:  # a mapped page stays in memory whatever becomes of its writing, as SQLite's shared index does
            self._fail("write")
            self._need(offset + len(data) - len(file.data))
        file.put(offset, data)
        return fuse.written(len(data))

    def _allocate(self, request: Request) -> bytes:
        offset, length = fuse.allocated(request.body)
        file = self._file(request.node)
        self._need(offset + length - len(file.data))
        if len(file.data) < offset + length:
            file.resize(offset + length)
        return b""

    def _sync(self, request: Request) -> bytes:
        node, handle = self.nodes[request.node], fuse.handle(request.body)
        self.syncs += 1
        if isinstance(node, Directory):
            self._fail("names")
            self._fail("sync")
        elif handle in node.unheard:
            node.unheard.remove(handle)
            raise OSError(errno.EIO, "a sync of another's had failed")
        else:
            try:
                self._fail("sync")
            except OSError:
                node.lose_sync(handle)
                raise
        node.sync()
        return b""

    def _list(self, request: Request) -> bytes:
        offset, size = fuse.reading(request.body)
        directory = self._directory(request.node)
        entries = [(request.node, ".", True), (request.node, "..", True)]
        for name, node in directory.names.items():
            entries.append((node, name, isinstance(self.nodes[node], Directory)))
        return fuse.listing(entries, offset, size)

    def used(self) -> int:
        """Bytes under a name; what was removed and is still open takes none."""
        named = {node for each in self.nodes.values() if isinstance(each, Directory) for node in each.names.values()}
        files = (self.nodes[node] for node in named)
        return sum(len(file.data) for file in files if isinstance(file, File))

    def _space(self, _: Request) -> bytes:
        free = max(self.room - self.used(), 0)
        return fuse.space(CAPACITY // BLOCK, free // BLOCK, len(self.nodes))

    def _need(self, more: int) -> None:
        if more > 0 and self.used() + more > self.room:
            raise OSError(errno.ENOSPC, "full")

    def _fail(self, call: str) -> None:
        if self.failing[call]:
            self.failing[call] -= 1
            raise OSError(errno.EIO, call)


class Mount:
    """The disk in the tree of files, as the process that serves it."""

    def __init__(self, disk: Disk, at: Path) -> None:
        self._disk = disk
        self._at = at
        self._device = -1

    def up(self) -> None:
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        told = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        linux.mount("forgetful", self._at, "fuse.forgetful", 0, told)
        asyncio.get_running_loop().add_reader(self._device, self._serve)

    def down(self) -> None:
        """At once: every call that is under way, and every later one on an open file, fails."""
        asyncio.get_running_loop().remove_reader(self._device)
        os.close(self._device)
        linux.unmount(self._at)

    def _serve(self) -> None:
        try:
            request = fuse.read_request(os.read(self._device, fuse.BUFFER))
        except (BlockingIOError, FileNotFoundError):
            return  # taken back by whoever had asked
        reply = self._disk.answer(request)
        if reply is not None:
            try:
                os.write(self._device, reply)
            except FileNotFoundError:
                return  # whoever had asked was killed


async def run_disk(at: Path, control: Path, seed: int) -> None:
    """Serve until cancelled. ``do``: ``cut`` (survival), ``fill`` (others took what was free), ``fail`` (call, times),
    ``heal``.
    """
    disk = Disk(seed)
    mount = Mount(disk, at)
    mount.up()

    async def handle(request: Answer) -> Answer:
        match request["do"]:
            case "cut":
                mount.down()
                disk.cut(float(str(request["survival"])))
                mount.up()
            case "fill":
                disk.room = disk.used()
            case "fail":
                disk.failing[str(request["call"])] += int(str(request["times"]))
            case "heal":
                disk.room = CAPACITY
                disk.failing = dict.fromkeys(disk.failing, 0)
        return {"syncs": disk.syncs}

    async with served(control, handle):
        await asyncio.get_running_loop().create_future()
