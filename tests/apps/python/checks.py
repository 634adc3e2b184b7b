"""What the Python apps check through the official client, the same for HTTP and gRPC apps."""

import json
import os
import queue
import sys
import threading
import time
import traceback

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._response import TopicEventResponse
from dapr.clients.grpc._state import Concurrency, StateItem, StateOptions

STORE = 'statestore'
PUBSUB = 'pubsub'
# Of this app alone: what another app publishes must not arrive here.
TOPIC = 'py-topic-' + os.environ['APP_ID']

failed = 0


def check(name, work):
    global failed
    try:
        work()
        print(f'check {name} ok', flush=True)
    except Exception as error:
        failed += 1
        traceback.print_exc()
        print(f'check {name} FAILED: {error!r}', flush=True)


def finish():
    sys.stdout.flush()
    if 'STAY' in os.environ:
        print('check all done', flush=True)
        threading.Event().wait()
    sys.exit(1 if failed else 0)


def eventually(what, question, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f'waited in vain for {what}')


def refused(work, *codes):
    try:
        work()
    except DaprGrpcError as error:
        assert error.code().name in codes, error
        return
    raise AssertionError(f'was not refused with {codes}')


def state(client):
    def save_and_get():
        client.save_state(STORE, 'py-key', json.dumps({'n': 1}))
        got = client.get_state(STORE, 'py-key')
        assert json.loads(got.data) == {'n': 1}, got.data
        assert got.etag, 'no etag'

    def missing():
        got = client.get_state(STORE, 'py-missing')
        assert got.data == b'' and not got.etag, (got.data, got.etag)

    def etags():
        client.save_state(STORE, 'py-etag', 'one')
        old = client.get_state(STORE, 'py-etag').etag
        options = StateOptions(concurrency=Concurrency.first_write)
        client.save_state(STORE, 'py-etag', 'two', etag=old, options=options)
        refused(
            lambda: client.save_state(STORE, 'py-etag', 'three', etag=old, options=options),
            'ABORTED',
        )
        assert client.get_state(STORE, 'py-etag').data == b'two'
        refused(lambda: client.delete_state(STORE, 'py-etag', etag=old), 'ABORTED')

    def bulk():
        items = [StateItem(key=f'py-bulk-{n}', value=str(n)) for n in range(10)]
        client.save_bulk_state(STORE, items)
        got = client.get_bulk_state(STORE, [f'py-bulk-{n}' for n in range(11)])
        found = {item.key: item.data for item in got.items}
        assert found['py-bulk-7'] == b'7', found
        assert found.get('py-bulk-10', b'') == b'', found

    def transaction():
        client.save_state(STORE, 'py-tx-old', 'x')
        client.execute_state_transaction(
            STORE,
            [
                TransactionalStateOperation(key='py-tx-new', data='y'),
                TransactionalStateOperation(
                    key='py-tx-old', operation_type=TransactionOperationType.delete
                ),
            ],
        )
        assert client.get_state(STORE, 'py-tx-new').data == b'y'
        assert client.get_state(STORE, 'py-tx-old').data == b''

    def ttl():
        client.save_state(STORE, 'py-ttl', 'x', state_metadata={'ttlInSeconds': '1'})
        assert client.get_state(STORE, 'py-ttl').data == b'x'
        eventually('expiry', lambda: client.get_state(STORE, 'py-ttl').data == b'', 10)

    def delete():
        client.save_state(STORE, 'py-delete', 'x')
        client.delete_state(STORE, 'py-delete')
        assert client.get_state(STORE, 'py-delete').data == b''

    def unknown_store():
        refused(lambda: client.get_state('no-such-store', 'k'), 'INVALID_ARGUMENT')

    check('state.save_get', save_and_get)
    check('state.missing', missing)
    check('state.etags', etags)
    check('state.bulk', bulk)
    check('state.transaction', transaction)
    check('state.ttl', ttl)
    check('state.delete', delete)
    check('state.unknown_store', unknown_store)


def publish(client, arrived):
    """`arrived` is a queue of what the app's subscription to TOPIC was given."""

    def one():
        client.publish_event(
            PUBSUB, TOPIC, json.dumps({'id': 1}), data_content_type='application/json'
        )
        got = arrived.get(timeout=30)
        assert got == {'id': 1}, got

    def many():
        answer = client.publish_events(
            PUBSUB,
            TOPIC,
            [json.dumps({'id': n}) for n in range(100, 120)],
            data_content_type='application/json',
        )
        assert not answer.failed_entries, answer.failed_entries
        got = set()
        while len(got) < 20:
            got.add(arrived.get(timeout=30)['id'])
        assert got == set(range(100, 120)), got

    def unknown():
        refused(lambda: client.publish_event('no-such-pubsub', 't', 'x'), 'INVALID_ARGUMENT', 'NOT_FOUND')

    check('publish.deliver', one)
    check('publish.bulk', many)
    check('publish.unknown_pubsub', unknown)


def stream(client):
    """A streaming subscription: the app dials in, events come back on the same stream."""

    def pull():
        subscription = client.subscribe(PUBSUB, 'py-stream')
        try:
            client.publish_event(
                PUBSUB, 'py-stream', json.dumps({'id': 5}), data_content_type='application/json'
            )
            message = next(subscription)
            assert message.data() == {'id': 5}, message.data()
            subscription.respond_success(message)
        finally:
            subscription.close()

    def handler():
        arrived = queue.Queue()

        def handle(message):
            arrived.put(message.data())
            return TopicEventResponse('success')

        close = client.subscribe_with_handler(PUBSUB, 'py-stream-handler', handle)
        try:
            client.publish_event(
                PUBSUB, 'py-stream-handler', json.dumps({'id': 6}), data_content_type='application/json'
            )
            assert arrived.get(timeout=30) == {'id': 6}
        finally:
            close()

    check('stream.pull', pull)
    check('stream.handler', handler)


def lock(client):
    def once():
        with client.try_lock('lockstore', 'py-lock', 'me', 30) as taken:
            assert taken.success
            assert not client.try_lock('lockstore', 'py-lock', 'you', 30).success
            status = client.unlock('lockstore', 'py-lock', 'you').status
            assert status.name == 'lock_belongs_to_others', status
        # The client gives it back at the end of the block.
        status = client.unlock('lockstore', 'py-lock', 'me').status
        assert status.name == 'lock_does_not_exist', status

    check('lock.once', once)


def metadata(client):
    def read():
        got = client.get_metadata()
        names = {component.name for component in got.registered_components}
        assert {STORE, PUBSUB} <= names, names

    check('metadata.read', read)


def peer(call):
    """Calls the app named by PEER_APP_ID, which may still be starting."""

    def work():
        last = None
        for _ in range(300):
            try:
                got = call(os.environ['PEER_APP_ID'])
                assert got['echo'] == {'n': 8}, got
                return
            except AssertionError:
                raise
            except Exception as error:
                last = error
                time.sleep(0.1)
        raise last

    if 'PEER_APP_ID' in os.environ:
        check('invoke.peer', work)


def client():
    return DaprClient()
