"""The broker of docs/examples/mosquitto.conf, with this test's files in the place of the operator's."""

from __future__ import annotations

import signal
from pathlib import Path

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.rights import mosquitto_acl
from edge.tls_socket import TlsFiles
from tests.cloud_sync.broker_rig import Mosquitto
from tests.enrolment.rig import Office

EXAMPLE = Path(__file__).parents[2] / "docs/examples/mosquitto.conf"


class OperatorsBroker(Mosquitto):
    """``acl``: the generated one for the consumer ``hub`` and the issuer ``staff``, unless a test has its own."""

    def __init__(self, office: Office, acl: str = "") -> None:
        super().__init__(office.folder)
        server = office.server("localhost")
        office.desk().refresh()
        rights = office.folder / "acl"
        rights.write_text(acl or mosquitto_acl(["hub"], ["staff"]))
        rights.chmod(0o600)
        text = EXAMPLE.read_text()
        for theirs, ours in (
            ("listener 8883", f"listener {self.port} 127.0.0.1\nuser root"),
            ("/etc/mosquitto/lastmile/ca.pem", office.ca),
            ("/etc/mosquitto/lastmile/broker.pem", server.certificate),
            ("/etc/mosquitto/lastmile/acl", rights),
            ("/var/lib/lastmile-enrol/public/revoked.pem", office.revoked_file),
            ("/var/lib/mosquitto/", f"{office.folder}/"),
        ):
            assert theirs in text, theirs
            text = text.replace(theirs, str(ours))
        self.config.write_text(text)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def secure(self, client_id: str, files: TlsFiles, protocol: str = "5", **more: object) -> BrokerSettings:
        settings = self.settings(client_id, protocol, tls=files, **more)
        return BrokerSettings(
            **{name: getattr(settings, name) for name in settings.__struct_fields__} | {"host": "localhost"}
        )

    async def connect(self, client_id: str, files: TlsFiles, protocol: str = "5") -> MqttConnection:
        return await MqttBroker(self.secure(client_id, files, protocol, session_expiry=0)).connect(None)
