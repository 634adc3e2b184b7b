"""A gRPC app (`dapr.ext.grpc`) with the official Python client; calls go over gRPC too."""

import json
import os
import queue
import threading

os.environ['DAPR_API_METHOD_INVOCATION_PROTOCOL'] = 'grpc'

import grpc  # noqa: E402
from checks import TOPIC, check, client, finish, lock, publish, state  # noqa: E402
from dapr.clients.grpc._response import TopicEventResponse  # noqa: E402
from dapr.ext.grpc import App, InvokeMethodRequest, InvokeMethodResponse, SubscriptionMessage  # noqa: E402

# Whom the checks call: this app, or another one that is the same program.
CALLED = os.environ.get('CALLED_APP_ID', os.environ['APP_ID'])

app = App()
arrived = queue.Queue()


@app.subscribe(pubsub_name='pubsub', topic=TOPIC)
def on_topic(event: SubscriptionMessage) -> TopicEventResponse:
    arrived.put(event.data())
    return TopicEventResponse('success')


@app.method(name='echo')
def echo(request: InvokeMethodRequest) -> InvokeMethodResponse:
    body = json.loads(request.text())
    return InvokeMethodResponse(json.dumps({'echo': body}), 'application/json')


class Echo:
    """A service of the app's own, unknown to the runtime: reached by proxying, bytes in and out."""

    @staticmethod
    def say(request, context):
        context.set_trailing_metadata((('x-trailer', 'kept'),))
        return b'said ' + request

    @staticmethod
    def chat(requests, context):
        for request in requests:
            yield b'heard ' + request

    @staticmethod
    def fail(request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'as asked')


def echo_service(_, server):
    handlers = {
        'Say': grpc.unary_unary_rpc_method_handler(Echo.say),
        'Chat': grpc.stream_stream_rpc_method_handler(Echo.chat),
        'Fail': grpc.unary_unary_rpc_method_handler(Echo.fail),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('test.Echo', handlers),))


app.add_external_service(echo_service, None)


def proxy():
    """Calls the service of an app through the runtime's gRPC port."""
    target = (('dapr-app-id', CALLED),)
    channel = grpc.insecure_channel('127.0.0.1:' + os.environ['DAPR_GRPC_PORT'])

    def unary():
        say = channel.unary_unary('/test.Echo/Say')
        answer, call = say.with_call(b'hello', metadata=target, timeout=30)
        assert answer == b'said hello', answer
        assert ('x-trailer', 'kept') in list(call.trailing_metadata()), call.trailing_metadata()

    def stream():
        chat = channel.stream_stream('/test.Echo/Chat')
        to_send, metadata = queue.Queue(), target + (('dapr-stream', 'true'),)
        answers = chat(iter(to_send.get, None), metadata=metadata, timeout=30)
        for word in (b'one', b'two', b'three'):
            # The answer to one word arrives before the next one is sent.
            to_send.put(word)
            got = next(answers)
            assert got == b'heard ' + word, got
        to_send.put(None)
        assert list(answers) == []

    def status():
        fail = channel.unary_unary('/test.Echo/Fail')
        try:
            fail(b'', metadata=target, timeout=30)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == 'as asked', error
            return
        raise AssertionError('the status did not come through')

    check('proxy.unary', unary)
    check('proxy.stream', stream)
    check('proxy.status', status)


def invoke(dapr):
    def call():
        answer = dapr.invoke_method(
            CALLED, 'echo', data=json.dumps({'n': 7}), content_type='application/json'
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
        proxy()
        publish(dapr, arrived)
        lock(dapr)
    finish()
