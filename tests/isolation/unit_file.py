"""A unit of systemd/ as a command line: its user, groups, rights and walls, as close as util-linux comes to them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

FULL_WEIGHT = 100
"""CPUWeight of a service that says nothing."""
NICE_STEP = 1.25
"""By one step of nice a process's share changes by this factor (sched(7))."""


class Unit(msgspec.Struct, frozen=True):
    """What a unit says of its process's rights. ``hidden`` are its InaccessiblePaths.

    A CPUWeight becomes a nice value, which is less: a control group shares its weight among all its threads, here each
    thread has it to itself. Memory limits are left out, and so is the filter of system calls: hostile code is
    freer here than under the unit.
    """

    user: str
    group: str
    groups: tuple[str, ...]
    umask: int
    no_new_privileges: bool
    without_capabilities: bool
    private_network: bool
    hides_processes: bool
    core: int
    tasks: int
    cpu_weight: int
    state_mode: int
    hidden: tuple[str, ...]

    def command(self, program: Sequence[str], *, network: Path | None, walls: bool = True) -> list[str]:
        """``program`` as root starts it for this unit; ``network`` is the namespace of a PrivateNetwork.

        Without ``walls`` the mounts of InaccessiblePaths and ProtectProc are left out: the user has to be enough then.
        """
        join = [] if network is None else ["nsenter", f"--net={network}"]
        nice = round(math.log(FULL_WEIGHT / self.cpu_weight, NICE_STEP))
        limits = ["nice", "-n", str(nice), "prlimit", f"--core={self.core}", f"--nproc={self.tasks}"]
        return [*join, *(self._walls() if walls else []), *limits, *self._rights(), *program]

    def _rights(self) -> list[str]:
        groups = f"--groups={','.join(self.groups)}" if self.groups else "--clear-groups"
        rights = ["setpriv", f"--reuid={self.user}", f"--regid={self.group}", groups]
        if self.without_capabilities:
            rights += ["--inh-caps=-all", "--bounding-set=-all"]
        return [*rights, "--no-new-privs"] if self.no_new_privileges else rights

    def _walls(self) -> list[str]:
        steps = [f"if [ -e {path} ]; then mount -t tmpfs -o ro,mode=000 none {path}; fi" for path in self.hidden]
        if self.hides_processes:
            steps.append("mount -t proc -o hidepid=invisible proc /proc")
        return ["unshare", "--mount", "sh", "-ec", "; ".join([*steps, 'exec "$@"']), "sh"]


def read_unit(path: Path) -> Unit:
    """Raises ``KeyError`` when the unit lacks a line that isolation rests on: then there is nothing to test."""
    lines: dict[str, list[str]] = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            lines.setdefault(key, []).append(value)
    return Unit(
        user=lines["User"][-1],
        group=lines["Group"][-1],
        groups=tuple(shlex.split(" ".join(lines.get("SupplementaryGroups", [])))),
        umask=int(lines["UMask"][-1], 8),
        no_new_privileges=lines["NoNewPrivileges"] == ["yes"],
        without_capabilities=lines["CapabilityBoundingSet"] == [""] == lines["AmbientCapabilities"],
        private_network=lines.get("PrivateNetwork") == ["yes"],
        hides_processes=lines["ProtectProc"] == ["invisible"],
        core=int(lines["LimitCORE"][-1]),
        tasks=int(lines["TasksMax"][-1]),
        cpu_weight=int(lines.get("CPUWeight", [str(FULL_WEIGHT)])[-1]),
        state_mode=int(lines.get("StateDirectoryMode", ["0"])[-1], 8),
        hidden=tuple(each.lstrip("-") for each in shlex.split(" ".join(lines.get("InaccessiblePaths", [])))),
    )
