"""Publishes three events to itself and says which arrived."""

import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arrived = []
everything_arrived = threading.Event()


class App(BaseHTTPRequestHandler):
    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/dapr/subscribe":
            self.answer(200, [{"pubsubname": "pubsub", "topic": "orders", "route": "/orders"}])
        else:
            self.answer(404, {})

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        arrived.append(event["data"]["id"])
        self.answer(200, {"status": "SUCCESS"})
        if len(arrived) == 3:
            everything_arrived.set()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), App)
threading.Thread(target=server.serve_forever, daemon=True).start()

base = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/publish/pubsub/orders"
for number in (1, 2, 3):
    event = json.dumps({"id": number}).encode()
    request = urllib.request.Request(base, event, {"content-type": "application/json"})
    print("published", number, urllib.request.urlopen(request).status)

everything_arrived.wait(20)
print("arrived", sorted(arrived))
