"""Saves a value, reads it back and removes it, with nothing but the standard library."""

import json
import os
import urllib.request

base = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/state/statestore"


def call(method, path="", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.status, answer.headers.get("etag"), answer.read().decode()


print("saved:", call("POST", body=[{"key": "greeting", "value": {"text": "ahoy"}}])[0])
status, etag, value = call("GET", "/greeting")
print("read:", status, value, "with an etag" if etag else "without an etag")
print("deleted:", call("DELETE", "/greeting")[0])
print("read again:", call("GET", "/greeting")[0])
