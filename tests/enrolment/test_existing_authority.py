"""An authority of the operator's own: the commands of docs/enrolment.md as they stand there, and what comes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.rights import mosquitto_acl
from edge.identity_file import read_identity
from edge.keys_file import write_public_key
from edge.tls_socket import TlsFiles
from tests.agents.people import one_line_of, typed
from tests.cloud_sync.broker_rig import Mosquitto
from tests.enrolment.rig import HUB, ROOT, issuers

DOC = Path(__file__).parents[2] / "docs/enrolment.md"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a node's request was signed by the commands of the page."""
    folder = tmp_path_factory.mktemp("authority")
    assert typed("identity", "new", "--dir", folder / "id", "--tenant", "acme", "--name", "l1").returncode == 0
    shutil.copy(folder / "id" / "next" / "tls" / "node.csr", folder)
    script = re.search(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert script
    subprocess.run(["sh", "-e", "-c", script[1]], cwd=folder, check=True, capture_output=True)
    write_public_key(folder / "root.jwk", ROOT.public)
    write_public_key(folder / "hub.jwk", HUB.public)
    (folder / "issuers.jws").write_text(issuers(3))
    return folder


def install(folder: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    files = {"certificate": "node.crt", "ca": "ca.pem", "root": "root.jwk", "issuers": "issuers.jws", "hub": "hub.jwk"}
    options = [part for name, file in (files | changed).items() for part in (f"--{name}", folder / file)]
    return typed("identity", "install", "--dir", folder / "id", *options)


async def test_what_openssl_signed_is_installed_and_the_broker_takes_it(signed):
    assert "localhost" in one_line_of(install(signed, certificate="broker.crt"))
    assert not (signed / "id" / "current").exists()
    told = install(signed)
    assert told.returncode == 0, told
    whole = read_identity(signed / "id" / "current", wall=None)
    assert (whole.identity.node, whole.certificate.client, whole.lowest_issuers) == ("acme_l1", True, 3)

    rights = signed / "acl"
    rights.write_text(mosquitto_acl(["hub"], []))
    rights.chmod(0o600)
    lines = [f"cafile {signed / 'ca.pem'}", f"certfile {signed / 'broker.crt'}", f"keyfile {signed / 'broker.key'}"]
    lines += ["require_certificate true", "use_identity_as_username true", "tls_version tlsv1.3", f"acl_file {rights}"]
    broker = Mosquitto(signed, lines)
    await broker.start()
    pair = str(signed / "id" / "current" / "tls" / "node.pem")
    files = TlsFiles(str(signed / "id" / "current" / "tls" / "ca.pem"), pair, pair)
    settings = BrokerSettings(host="localhost", port=broker.port, client_id="acme_l1", tls=files)
    connection = await MqttBroker(settings).connect(None)
    assert await (await connection.send("lm/v1/acme/acme_l1/probe", b"x")) in (0, 0x10)
    assert await (await connection.send("lm/v1/acme/acme_l2/probe", b"x")) == 0x87
    await connection.close()
    broker.kill()
