// An app with the official JavaScript client. `node app.js http` serves and talks HTTP, `node app.js grpc` gRPC.
"use strict";

const { CommunicationProtocolEnum, DaprClient, DaprServer, HttpMethod, StateConcurrencyEnum } = require("@dapr/dapr");

const protocol = process.argv[2] === "grpc" ? CommunicationProtocolEnum.GRPC : CommunicationProtocolEnum.HTTP;
const grpc = protocol === CommunicationProtocolEnum.GRPC;
const store = "statestore";
const pubsub = "pubsub";
const daprPort = grpc ? process.env.DAPR_GRPC_PORT : process.env.DAPR_HTTP_PORT;
const clientOptions = { daprHost: "127.0.0.1", daprPort, communicationProtocol: protocol };

let failed = 0;
const arrived = [];

function assert(condition, what) {
  if (!condition) throw new Error(what);
}

async function check(name, work) {
  try {
    await work();
    console.log(`check ${name} ok`);
  } catch (error) {
    failed += 1;
    console.log(`check ${name} FAILED: ${(error && error.stack) || JSON.stringify(error)}`);
  }
}

async function eventually(what, question, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    const answer = await question();
    if (answer) return answer;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`waited in vain for ${what}`);
}

async function state(client) {
  await check("state.save_get", async () => {
    const saved = await client.state.save(store, [{ key: "js-key", value: { n: 1 } }]);
    assert(!saved.error, saved.error);
    const got = await client.state.get(store, "js-key");
    assert(got.n === 1, JSON.stringify(got));
  });
  await check("state.missing", async () => {
    assert((await client.state.get(store, "js-missing")) === "", "a missing key has a value");
  });
  await check("state.bulk", async () => {
    const items = [...Array(10).keys()].map((n) => ({ key: `js-bulk-${n}`, value: n }));
    await client.state.save(store, items);
    const got = await client.state.getBulk(store, items.map((item) => item.key), { parallelism: 5 });
    assert(got.length === 10 && got.find((item) => item.key === "js-bulk-7").data === 7, JSON.stringify(got));
  });
  await check("state.etag", async () => {
    await client.state.save(store, [{ key: "js-etag", value: "one" }]);
    const [{ etag }] = await client.state.getBulk(store, ["js-etag"], { parallelism: 1 });
    const options = { concurrency: StateConcurrencyEnum.CONCURRENCY_FIRST_WRITE };
    await client.state.save(store, [{ key: "js-etag", value: "two", etag, options }]);
    let refused = false;
    try {
      const again = await client.state.save(store, [{ key: "js-etag", value: "three", etag, options }]);
      refused = Boolean(again.error);
    } catch (_) {
      refused = true;
    }
    assert(refused, "a stale etag was accepted");
    assert((await client.state.get(store, "js-etag")) === "two", "a refused write was applied");
  });
  await check("state.transaction", async () => {
    await client.state.save(store, [{ key: "js-tx-old", value: "x" }]);
    await client.state.transaction(store, [
      { operation: "upsert", request: { key: "js-tx-new", value: "y" } },
      { operation: "delete", request: { key: "js-tx-old" } },
    ]);
    assert((await client.state.get(store, "js-tx-new")) === "y", "the upsert is missing");
    assert((await client.state.get(store, "js-tx-old")) === "", "the delete is missing");
  });
  await check("state.delete", async () => {
    await client.state.save(store, [{ key: "js-delete", value: "x" }]);
    await client.state.delete(store, "js-delete");
    assert((await client.state.get(store, "js-delete")) === "", "still there");
  });
}

async function invoke(client) {
  await check("invoke.self", async () => {
    const got = await client.invoker.invoke(process.env.APP_ID, "echo", HttpMethod.POST, { n: 7 });
    assert(got.echo.n === 7, JSON.stringify(got));
  });
  const peer = process.env.PEER_APP_ID;
  if (!peer) return;
  await check("invoke.peer", async () => {
    await eventually("the peer", async () => {
      try {
        const got = await client.invoker.invoke(peer, "echo", HttpMethod.POST, { n: 8 });
        return got.echo.n === 8;
      } catch (_) {
        return false; // still starting
      }
    });
  });
}

async function publish(client) {
  await check("publish.deliver", async () => {
    const answer = await client.pubsub.publish(pubsub, "js-topic", { id: 1 });
    assert(!answer.error, answer.error);
    await eventually("the event", () => arrived.some((event) => event.id === 1));
  });
  await check("publish.bulk", async () => {
    const events = [...Array(20).keys()].map((n) => ({ id: 100 + n }));
    const answer = await client.pubsub.publishBulk(pubsub, "js-topic", events);
    assert(answer.failedMessages.length === 0, JSON.stringify(answer));
    await eventually("twenty events", () => new Set(arrived.map((event) => event.id)).size === 21);
  });
  await check("publish.text", async () => {
    await client.pubsub.publish(pubsub, "js-text", "hello");
    await eventually("the text", () => arrived.includes("hello"));
  });
}

async function main() {
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: process.env.APP_PORT,
    communicationProtocol: protocol,
    clientOptions,
  });
  await server.pubsub.subscribe(pubsub, "js-topic", async (data) => arrived.push(data) && undefined);
  await server.pubsub.subscribe(pubsub, "js-text", async (data) => arrived.push(data) && undefined);
  await server.invoker.listen("echo", async (data) => ({ echo: JSON.parse(data.body) }), { method: HttpMethod.POST });
  await server.start();
  const client = new DaprClient(clientOptions);
  await state(client);
  await invoke(client);
  await publish(client);
  await check("lock.once", async () => {
    const resource = `js-lock-${process.argv[2]}`;
    assert((await client.lock.lock("lockstore", resource, "me", 30)).success, "a free lock was not taken");
    assert(!(await client.lock.lock("lockstore", resource, "you", 30)).success, "it was taken twice");
    const others = await client.lock.unlock("lockstore", resource, "you");
    assert(String(others.status) === "LockBelongsToOthers" || Number(others.status) === 2, `unlocked by others: ${others.status}`);
    const own = await client.lock.unlock("lockstore", resource, "me");
    assert(String(own.status) === "Success" || Number(own.status) === 0, `not unlocked: ${own.status}`);
  });
  await check("metadata.read", async () => {
    const got = await client.metadata.get();
    assert(JSON.stringify(got).includes(store), JSON.stringify(got));
  });
  if (process.env.STAY) {
    console.log("check all done");
    return;
  }
  process.exit(failed === 0 ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(2);
});
