"""Calls `greeter` by its name, as soon as it is there, then asks the runtime to stop."""

import os
import time
import urllib.error
import urllib.request

base = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0"
for attempt in range(50):
    try:
        with urllib.request.urlopen(f"{base}/invoke/greeter/method/greet") as answer:
            print("greeter says:", answer.read().decode(), flush=True)
            break
    except urllib.error.HTTPError:
        time.sleep(0.1)
