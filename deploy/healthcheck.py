"""Whether the service in this container answers: exit status 0 if so, else 1. Needs no curl and no key.

Where /health needs a key, 401 is an answer as well.
"""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("LOOKALIKE_PORT", "8000")), timeout=4)
try:
    connection.request("GET", "/health/live")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer: {error}")
sys.exit(0 if status in (200, 401) else f"status {status}")
