"""A device with an HTTP interface for tests: `python http_server.py PORT`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATE = {"relay": {"on": False}, "sensors": [{"t": 21.25}], "requests": 0}


class Device(BaseHTTPRequestHandler):
    def do_GET(self):
        STATE["requests"] += 1
        if self.path == "/pieces":
            self._answer(200, b'{"padding": "' + b"x" * 300_000 + b'", "t": 5}')
            return
        found = self.path == "/status"
        self._answer(
            200 if found else 404, json.dumps(STATE).encode() if found else b"no such path"
        )

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/relay" or not isinstance(body["on"], bool):
            self._answer(409, b"the relay does not do that")
        else:
            STATE["relay"]["on"] = body["on"]
            self._answer(200, b"{}")

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Device).serve_forever()
