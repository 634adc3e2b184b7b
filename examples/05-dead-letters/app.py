"""Refuses every order with a negative amount; the refused one arrives at the dead-letter route."""

import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

done = threading.Event()
good, dead = [], []


class App(BaseHTTPRequestHandler):
    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))["data"]
        status = "SUCCESS"
        if self.path == "/dead":
            dead.append(order["id"])
        elif order["amount"] < 0:
            status = "DROP"
        else:
            good.append(order["id"])
        body = json.dumps({"status": status}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if good and dead:
            done.set()

    def do_GET(self):
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), App)
threading.Thread(target=server.serve_forever, daemon=True).start()

base = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/publish/pubsub/orders"
for order in ({"id": 1, "amount": 5}, {"id": 2, "amount": -5}):
    body = json.dumps(order).encode()
    urllib.request.urlopen(urllib.request.Request(base, body, {"content-type": "application/json"}))

done.wait(20)
print("handled", good, "dead", dead)
