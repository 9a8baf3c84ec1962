"""Whether the service in this container answers: exit status 0 if so, else 1. Needs no curl and no key.

It is asked where it listens. Where /health needs a key, 401 is an answer as well.
"""

import http.client
import os
import sys

EVERY_INTERFACE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

host = os.environ.get("LOOKALIKE_HOST", "")
port = int(os.environ.get("LOOKALIKE_PORT", "8000"))
connection = http.client.HTTPConnection(EVERY_INTERFACE.get(host, host), port, timeout=4)
try:
    connection.request("GET", "/health/live")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer: {error}")
sys.exit(0 if status in (200, 401) else f"status {status}")
