"""RabbitMQ as the tests start it: on loopback alone, with ports, cookie and home of its own, ended by process id."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the one in /usr/sbin: that changes the user and forgets the environment."""
EPMD = Path("/usr/bin/epmd")
ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none -start_epmd false"
"""Talk to the others on loopback alone; one core; no waiting by spinning; no port mapper of its own."""
START_S = 150.0
"""An Erlang machine on two busy cores; one that comes back waits for the other as well."""


class Rabbits:
    """A cluster of ``count`` nodes that find each other by their configuration. ``session``: it may outlive a test."""

    def __init__(self, count: int = 1, *, session: bool = False) -> None:
        assert SERVER.exists(), "RabbitMQ is missing: apt-get install rabbitmq-server"
        self.home = Path(tempfile.mkdtemp(prefix=f"lastmile-{'session-' if session else ''}rabbit-"))
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(os.urandom(20).hex())
        cookie.chmod(0o400)
        self._mapper_port = _own_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self.names = [f"r{n}-{self._mapper_port}@localhost" for n in range(count)]
        self.nodes = [Rabbit(self, name) for name in self.names]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
        }

    def start(self) -> None:
        """One after the other, as docs/scaling.md asks for: of nodes that start together the MQTT plugin sometimes
        leaves one out of its own cluster, and no message tells of it.
        """
        # Started here, in the foreground, or the first node would leave one behind.
        with (self.home / "epmd.log").open("ab") as told:
            self._mapper = subprocess.Popen(
                [self.home / "epmd"], executable=EPMD, stdout=told, stderr=told, env=self.environment()
            )
        _wait(lambda: _listens(self._mapper_port), self.home / "epmd.log")
        for node in self.nodes:
            node.launch()
            node.wait()

    def remove(self) -> None:
        for node in self.nodes:
            node.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def urls(self) -> tuple[str, ...]:
        return tuple(f"amqp://127.0.0.1:{node.amqp_port}/" for node in self.nodes)


class Rabbit:
    """One node of a cluster."""

    def __init__(self, cluster: Rabbits, name: str) -> None:
        self.name = name
        self.amqp_port, self.mqtt_port, self._between = _own_port(), _own_port(), _own_port()
        self._cluster = cluster
        self._folder = cluster.home / name
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}",
            f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt_port}",
            # A node's session has to outlive the broker that it was on.
            "mqtt.durable_queue_type = quorum",
            "cluster_formation.peer_discovery_backend = classic_config",
            "cluster_partition_handling = pause_minority",
            *(f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(self._cluster.names, 1)),
        ]
        (self._folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        with (self._folder / "out").open("ab") as told:
            # The argument is for those who look at the list of processes.
            self._process = subprocess.Popen(
                [SERVER, "-lastmile", self._folder],
                stdout=told,
                stderr=told,
                cwd=self._folder,
                env=self._environment(),
                start_new_session=True,
            )

    def wait(self, seconds: float = START_S) -> None:
        def ready() -> bool:
            assert self._process is None or self._process.poll() is None, (self._folder / "out").read_text()
            return _listens(self.amqp_port) and _listens(self.mqtt_port)

        _wait(ready, self._folder / "out", seconds)

    def run(self, erlang: str) -> str:
        """Have the node evaluate an expression; what it prints of it."""
        cookie = (self._cluster.home / ".erlang.cookie").read_text()
        command = ["erl_call", "-n", self.name, "-c", cookie, "-e"]
        done = subprocess.run(
            command, input=erlang, capture_output=True, text=True, check=True, timeout=60, env=self._environment()
        )
        return done.stdout

    def kill(self) -> None:
        """kill -9, with the helpers of its own session."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            **self._cluster.environment(),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.amqp_port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._between),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }


@contextlib.contextmanager
def rabbits(count: int = 1, *, session: bool = False) -> Iterator[Rabbits]:
    cluster = Rabbits(count, session=session)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def _own_port() -> int:
    """A free one below those that the system hands to clients: a node that starts late, or again, finds it free."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: object, log: Path, seconds: float = START_S) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.05)
