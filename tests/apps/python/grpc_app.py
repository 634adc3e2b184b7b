"""A gRPC app (`dapr.ext.grpc`) with the official Python client; calls go over gRPC too."""

import json
import os
import queue
import threading

os.environ['DAPR_API_METHOD_INVOCATION_PROTOCOL'] = 'grpc'

from checks import check, client, finish, publish, state  # noqa: E402
from dapr.clients.grpc._response import TopicEventResponse  # noqa: E402
from dapr.ext.grpc import App, InvokeMethodRequest, InvokeMethodResponse, SubscriptionMessage  # noqa: E402

app = App()
arrived = queue.Queue()


@app.subscribe(pubsub_name='pubsub', topic='py-topic')
def on_topic(event: SubscriptionMessage) -> TopicEventResponse:
    arrived.put(event.data())
    return TopicEventResponse('success')


@app.method(name='echo')
def echo(request: InvokeMethodRequest) -> InvokeMethodResponse:
    body = json.loads(request.text())
    return InvokeMethodResponse(json.dumps({'echo': body}), 'application/json')


def invoke(dapr):
    def call():
        answer = dapr.invoke_method(
            os.environ['APP_ID'], 'echo', data=json.dumps({'n': 7}), content_type='application/json'
        )
        got = json.loads(answer.text())
        assert got['echo'] == {'n': 7}, got

    check('invoke.self', call)


if __name__ == '__main__':
    port = int(os.environ['APP_PORT'])
    serve = threading.Thread(target=lambda: app.run(port, '127.0.0.1'), daemon=True)
    serve.start()
    with client() as dapr:
        dapr.wait(30)
        state(dapr)
        invoke(dapr)
        publish(dapr, arrived)
    finish()
