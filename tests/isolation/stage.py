"""A node's file system and users, made in a private mount namespace of this machine: nothing of it is left afterwards.

/etc is a copy, so that the product's users exist here alone; /run is empty, /var/lib lies in a directory of the test.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import msgspec

from agents.site import Courier, Site, make_keys
from tests.isolation.unit_file import Unit, read_unit

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
STORE = Path("/var/lib/lastmile")
CONFIG = Path("/etc/lastmile")
BUS = Path("/run/cabinet/bus")
"""Outside of what the units make: a serial port of the machine, owned as udev would."""
LINK = Path("/run/lastmile/link/role.sock")
TOKEN = Path("/run/lastmile/kiosk/token")
HEALTH = Path("/run/lastmile/health")
BENCH = Path("/run/bench")
"""Root's own: the office's keys, the simulated cabinet, logs."""
NETWORK = BENCH / "network"
KIOSK_PORT = 8080
BOARDS, LOCKS = 2, 16
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"


class Units(msgspec.Struct, frozen=True):
    """The units whose processes take part."""

    role: Unit
    sync: Unit
    kiosk: Unit
    collector: Unit


def read_units() -> Units:
    names = ("locker", "cloud-sync", "kiosk", "collector")
    return Units(*(read_unit(SYSTEMD / f"lastmile-{name}.service") for name in names))


def let_through(paths: list[Path], spare: Path) -> None:
    """Make ``paths`` reachable for every user, where a directory above them is closed to others.

    The first closed one is covered by an empty directory into which only what is needed is bound; ``spare`` is an
    empty directory that nobody else uses.
    """
    closed: dict[Path, list[Path]] = {}
    for path in _outermost([path.resolve() for path in paths]):
        shut = next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
        if shut is not None:
            closed.setdefault(shut, []).append(path)
    for number, (shut, needed) in enumerate(closed.items()):
        kept = [spare / f"{number}-{each}" for each in range(len(needed))]
        for path, keep in zip(needed, kept, strict=True):
            keep.mkdir(parents=True)
            run("mount", "--bind", path, keep)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", shut)
        for path, keep in zip(needed, kept, strict=True):
            path.mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", keep, path)


def _outermost(paths: list[Path]) -> list[Path]:
    return [path for path in dict.fromkeys(paths) if not any(other in path.parents for other in paths)]


def build(disk: Path, units: Units) -> None:
    """Everything that an installation makes before a unit starts. ``disk`` is a directory on a real disk."""
    umask = os.umask(0o022)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
    BENCH.mkdir(mode=0o700)
    BUS.parent.mkdir(mode=0o755)
    let_through([Path(sys.base_prefix), Path(sys.prefix), ROOT], BENCH / "through")
    run("cp", "-a", "/etc", BENCH / "etc")
    run("mount", "--bind", BENCH / "etc", "/etc")
    (disk / "lib").mkdir()
    run("mount", "--bind", disk / "lib", "/var/lib")
    run("systemd-sysusers", SYSTEMD / "lastmile.sysusers.conf")
    run("systemd-tmpfiles", "--create", SYSTEMD / "lastmile.tmpfiles.conf")
    # What systemd makes of StateDirectory= and ConfigurationDirectory=.
    for directory, unit in ((STORE, units.role), (STORE.with_name("lastmile-collector"), units.collector)):
        directory.mkdir(mode=unit.state_mode)
        shutil.chown(directory, unit.user, unit.group)
    CONFIG.mkdir()
    NETWORK.touch()
    run("unshare", f"--net={NETWORK}", sys.executable, "-m", "tests.isolation.stage")
    os.umask(umask)


def loopback_up() -> None:
    """In a new network namespace the loopback is down; systemd brings it up for PrivateNetwork=."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)[:18])[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def install(units: Units, *, wall: float, broker_port: int, protocol: str, subscribe: str) -> tuple[Site, Courier]:
    """Keys and settings, each where its process reads it and owned by its user. Returns the office, and a courier."""
    office = Site(BENCH / "office")
    courier = make_keys(office, wall=wall)
    _give(office, CONFIG / "keys", units.role.user, ("role.pem", "code.key", "root.jwk", "issuers.jws", "hub.jwk"))
    _give(office, CONFIG / "collector", units.collector.user, ("hub-ack.pem", "role.jwk"))
    broker = f'[broker]\nhost = "127.0.0.1"\nport = {broker_port}\nprotocol = "{protocol}"\n'
    (CONFIG / "node.toml").write_text(_node_toml(office, broker))
    (CONFIG / "collector.toml").write_text(
        f'name = "hub"\ndatabase = "/var/lib/lastmile-collector/events.db"\nsubscribe = "{subscribe}"\n{broker}'
        f'[keys]\nack = "collector/hub-ack.pem"\n[[nodes]]\ntenant = "{office.tenant}"\nname = "{office.name}"\n'
        'role_key = "collector/role.jwk"\n'
    )
    return office, courier


def _give(office: Site, directory: Path, user: str, names: tuple[str, ...]) -> None:
    directory.mkdir(mode=0o700)
    for name in names:
        shutil.copy(office.key(name), directory / name)
        shutil.chown(directory / name, user, user)
    shutil.chown(directory, user, user)


def _node_toml(office: Site, broker: str) -> str:
    columns = ",".join(
        f'{{ name = "{board}", rows = "{" ".join("M" * LOCKS)}", latches = "{board}:0..{LOCKS - 1}", '
        f'doors = "{board}-00..{board}-{LOCKS - 1:02d}" }}'
        for board in range(BOARDS)
    )
    cabinet = (
        "[locker.cabinet]\nbase_mm = 150\ncolumn_mm = 450\ndoor_mm = { S = 90, M = 100, L = 400 }\n"
        f"columns = [{columns}]\n"
    )
    boards = "".join(
        f'[[locker.boards]]\nboard = {board}\nkind = "kerong"\nbus = "main"\naddress = {board}\n'
        for board in range(BOARDS)
    )
    return (
        f'health = "{HEALTH}"\n[node]\ntenant = "{office.tenant}"\nname = "{office.name}"\nrole = "locker"\n'
        f'consumers = ["hub"]\n[store]\ndirectory = "{STORE}"\nreserve_mib = 1\n[keys]\nrole = "keys/role.pem"\n'
        'code = "keys/code.key"\nroots = ["keys/root.jwk"]\nissuers = "keys/issuers.jws"\nhub = "keys/hub.jwk"\n'
        f'[link]\nsocket = "{LINK}"\nusers = ["lm-sync"]\n{broker}[sync]\nmax_backoff_s = 1.0\n'
        f'[[locker.buses]]\nname = "main"\nport = "{BUS}"\n{boards}'
        f'[locker.kiosk]\ntoken_file = "{TOKEN}"\nport = {KIOSK_PORT}\n{cabinet}'
    )


def user_id(user: str) -> int:
    return pwd.getpwnam(user).pw_uid


if __name__ == "__main__":
    loopback_up()
