"""An HTTP app (FastAPI) with the official Python client."""

import json
import os
import queue
import threading

import uvicorn
from checks import TOPIC, check, client, finish, metadata, peer, publish, state, stream
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request

app = FastAPI()
dapr_app = DaprApp(app)
arrived = queue.Queue()


@dapr_app.subscribe(pubsub='pubsub', topic=TOPIC)
async def on_topic(request: Request):
    envelope = await request.json()
    arrived.put(envelope['data'])
    return {'status': 'SUCCESS'}


@app.post('/echo')
async def echo(request: Request):
    body = await request.json()
    return {'echo': body, 'caller': request.headers.get('dapr-caller-app-id')}


def invoke(dapr):
    def echo_of(app_id, value):
        answer = dapr.invoke_method(
            app_id, 'echo', data=json.dumps(value), http_verb='POST', content_type='application/json'
        )
        return json.loads(answer.data)

    def call():
        got = echo_of(os.environ['APP_ID'], {'n': 7})
        assert got['echo'] == {'n': 7}, got
        assert got['caller'] == os.environ['APP_ID'], got

    check('invoke.self', call)
    peer(lambda app_id: echo_of(app_id, {'n': 8}))


def serve():
    uvicorn.run(app, host='127.0.0.1', port=int(os.environ['APP_PORT']), log_level='warning')


if __name__ == '__main__':
    threading.Thread(target=serve, daemon=True).start()
    with client() as dapr:
        state(dapr)
        invoke(dapr)
        publish(dapr, arrived)
        stream(dapr)
        metadata(dapr)
    finish()
