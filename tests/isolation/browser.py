"""The honest page: the kiosk's user, with the token from its file, asks what it is told on stdin and takes the time."""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path


def main() -> None:
    port, token_file = int(sys.argv[1]), Path(sys.argv[2])
    token = token_file.read_text().strip()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.monotonic()
        connection.request(asked["method"], asked["path"], json.dumps(asked["body"]), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        told = {"status": answer.status, "body": body, "began": began, "answered": time.monotonic()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
