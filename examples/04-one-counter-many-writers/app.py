"""Eight threads add to one counter with optimistic concurrency; no addition is lost."""

import json
import os
import threading
import urllib.error
import urllib.request

base = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/state/statestore"
conflicts = []


def read():
    with urllib.request.urlopen(f"{base}/counter") as answer:
        return answer.headers.get("etag"), int(answer.read() or b"0")


def write(value, etag):
    item = {"key": "counter", "value": value, "options": {"concurrency": "first-write"}}
    if etag:
        item["etag"] = etag
    body = json.dumps([item]).encode()
    urllib.request.urlopen(urllib.request.Request(base, body, {"content-type": "application/json"}))


def add_one():
    while True:
        etag, value = read()
        try:
            return write(value + 1, etag)
        except urllib.error.HTTPError as refused:
            if refused.code != 409:
                raise
            conflicts.append(1)


def work():
    for _ in range(25):
        add_one()


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("counter:", read()[1])
