"""The units say what the processes may do. They are read here by systemd itself, on any machine that has it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
EXPOSURE = 2.0
"""The most that `systemd-analyze security` may score a unit: 0 is closed, 10 is a process without any bounds."""


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    assert found, "systemd-analyze is not here. Run: apt-get install systemd"
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a node, with a program in the place of those that this machine does not have."""
    for unit in UNITS:
        text = re.sub(r"/opt/lastmile/bin/lastmile|/usr/bin/(cage|chromium)", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def settings(unit: Path) -> dict[str, list[str]]:
    """Every setting of a unit with all its values, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_every_line(analyze: str, installed: Path, unit: Path) -> None:
    run = subprocess.run(
        [analyze, "verify", "--man=no", str(installed / unit.name)], capture_output=True, text=True, check=False
    )
    ours = [line for line in run.stderr.splitlines() if "lastmile" in line]
    assert (run.returncode, ours) == (0, []), run.stderr


def test_a_misspelt_setting_is_not_understood(analyze: str, installed: Path) -> None:
    """The check above can fail."""
    unit = installed / "lastmile-locker.service"
    unit.write_text(unit.read_text().replace("PrivateNetwork=", "PrivateNetwrok="))
    run = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "PrivateNetwrok" in run.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_exposure_stays_low(analyze: str, unit: Path) -> None:
    run = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True, check=False
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", run.stdout)
    assert score, run.stdout + run.stderr
    assert float(score[1]) <= EXPOSURE
    assert run.stderr == "", "a setting that systemd ignores protects nothing"


def test_the_role_agent_has_no_network_and_cloud_sync_no_device() -> None:
    role, sync = (settings(SYSTEMD / f"lastmile-{name}.service") for name in ("locker", "cloud-sync"))
    assert role["PrivateNetwork"] == ["yes"]
    assert role["IPAddressDeny"] == ["any"]
    assert role["IPAddressAllow"] == ["localhost"]
    assert sync["PrivateDevices"] == ["yes"]
    assert not {"StateDirectory", "DeviceAllow"} & sync.keys()
    # Its certificate and nothing else of the node: the identity's other half is the role agent's alone.
    assert sync["ReadWritePaths"] == ["/run/lastmile/health -/var/lib/lastmile-identity"]
    assert role["User"] != sync["User"]


def test_only_the_browser_joins_the_namespace_and_only_its_network() -> None:
    joining = [unit.stem for unit in UNITS if "JoinsNamespaceOf" in settings(unit)]
    assert joining == ["lastmile-kiosk"]
    kiosk = settings(SYSTEMD / "lastmile-kiosk.service")
    assert kiosk["JoinsNamespaceOf"] == ["lastmile-locker.service"]
    assert kiosk["PrivateNetwork"] == ["yes"]
    # Where both units have these, JoinsNamespaceOf= would share /tmp and shared memory as well.
    assert not {"PrivateTmp", "PrivateIPC"} & kiosk.keys()


def test_a_secret_that_the_manager_holds_has_the_name_of_the_configured_file() -> None:
    """Or it would be loaded, and the file read all the same."""
    named = {
        "locker": ("node.toml", {"role.pem", "code.key"}),
        "collector": ("collector.toml", {"ack.pem"}),
        "enrol": ("enrol.toml", {"issuing.key"}),
    }
    for name, (example, files) in named.items():
        unit = settings(SYSTEMD / f"lastmile-{name}.service")
        loaded = {each.partition(":")[0] for each in unit["LoadCredentialEncrypted"]}
        assert loaded == files
        text = (SYSTEMD.parent / "docs/examples" / example).read_text()
        assert all(f'/{each}"' in text for each in files)
        # Not an absolute path: where the operator has made none, the unit starts without.
        assert not any(each.partition(":")[2].startswith("/") for each in unit["LoadCredentialEncrypted"])


def test_every_user_and_group_that_is_used_is_made() -> None:
    lines = [line.split() for line in (SYSTEMD / "lastmile.sysusers.conf").read_text().splitlines()]
    made = {line[1] for line in lines if line and line[0] in "ug"}
    used = {name for unit in UNITS for key in ("User", "Group") for name in settings(unit).get(key, [])}
    supplementary = set(" ".join(" ".join(settings(u).get("SupplementaryGroups", [])) for u in UNITS).split())
    for line in (SYSTEMD / "lastmile.tmpfiles.conf").read_text().splitlines():
        if line.startswith("d"):
            used |= set(line.split()[3:5]) - {"root"}
    assert used | (supplementary - {"audio", "dialout"}) == made


def test_sysusers_reads_its_file() -> None:
    sysusers = shutil.which("systemd-sysusers")
    assert sysusers, "systemd-sysusers is not here. Run: apt-get install systemd"
    run = subprocess.run(
        [sysusers, "--dry-run", str(SYSTEMD / "lastmile.sysusers.conf")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_directory_of_the_socket_is_made_so_that_only_the_group_can_connect(tmp_path: Path) -> None:
    """What tmpfiles makes: root's parent, the role agent's directory that lm-link may pass through and not read."""
    modes = {}
    for line in (SYSTEMD / "lastmile.tmpfiles.conf").read_text().splitlines():
        if line.startswith("d"):
            _, path, mode, user, group = line.split()
            modes[path] = (int(mode, 8), user, group)
    assert modes["/run/lastmile"] == (0o755, "root", "root")
    assert modes["/run/lastmile/link"] == (0o2710, "lm-role", "lm-link")
    assert modes["/run/lastmile/kiosk"] == (0o2710, "lm-role", "lm-kiosk")
    assert modes["/run/lastmile/health"] == (0o1770, "root", "lm-health")
    assert modes["/run/lastmile/pulser"] == (0o2710, "lm-pulser", "lm-role")
    assert modes["/run/lastmile/scans"] == (0o2710, "lm-role", "lm-scan")
    written = {name: settings(SYSTEMD / f"lastmile-{name}.service")["ReadWritePaths"] for name in ("locker", "pulser")}
    assert written["pulser"] == ["/run/lastmile/pulser"]
    assert set(written["locker"][0].split()) == set(modes) - {"/run/lastmile", "/run/lastmile/pulser"}


def test_only_the_pulser_drives_coils_and_it_switches_off_however_it_ended() -> None:
    """Also when all of it was killed at once: nobody of it is left to do so then."""
    pulser = settings(SYSTEMD / "lastmile-pulser.service")
    assert pulser["PrivateNetwork"] == ["yes"]
    assert pulser["DeviceAllow"] == ["char-gpiochip rw"]
    assert pulser["KillMode"] == ["mixed"]
    assert pulser["ExecStopPost"] == [pulser["ExecStart"][0].replace("run pulser", "run pulser --off")]
    with_chip = {unit.stem for unit in UNITS if "char-gpiochip rw" in settings(unit).get("DeviceAllow", [])}
    assert with_chip == {"lastmile-pulser", "lastmile-locker"}


def test_the_camera_sees_no_key_no_network_and_no_database() -> None:
    camera = settings(SYSTEMD / "lastmile-camera.service")
    assert camera["PrivateNetwork"] == ["yes"]
    assert {"-/var/lib/lastmile", "-/var/lib/lastmile-identity"} <= set(camera["InaccessiblePaths"][0].split())
    assert not {"StateDirectory", "ReadWritePaths"} & camera.keys()
