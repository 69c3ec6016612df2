// What a Node.js program does with the package `consul`: writes at one agent, reads and watches at another.
//
//     WRITE_HTTP=127.0.0.1:8500 READ_HTTP=127.0.0.1:8500 node smoke.js PATH-OF-THE-PACKAGE

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const Consul = require(process.argv[2]);

const AWAIT_MS = 10_000;

function client(address) {
  const [host, port] = address.split(":");
  return new Consul({ host, port: Number(port) });
}

const writer = client(process.env.WRITE_HTTP);
const reader = client(process.env.READ_HTTP);

/** Asks until the answer is the expected one. */
async function awaitThat(what, expected, probe) {
  const deadline = Date.now() + AWAIT_MS;
  let found;
  do {
    found = await probe();
    if (JSON.stringify(found) === JSON.stringify(expected)) return;
    await sleep(50);
  } while (Date.now() < deadline);
  assert.deepEqual(found, expected, what);
}

const passing = async (service) => (await reader.health.service({ service, passing: true })).map((entry) => entry.Service.ID);

async function registersAndBeats() {
  const id = "shop/1 of:2";
  await writer.agent.service.register({ name: "shop", id, address: "127.0.0.1", port: 9000, tags: ["a"], meta: { k: "v" }, check: { ttl: "30s" } });
  assert.equal((await writer.agent.services())[id].Service, "shop");
  await awaitThat("critical before the first beat", ["critical"], async () =>
    (await reader.health.checks("shop")).map((check) => check.Status));
  await writer.agent.check.pass({ id: `service:${id}`, note: "fine" });
  await awaitThat("passing after a beat", [id], () => passing("shop"));
  assert.equal((await writer.agent.checks())[`service:${id}`].Output, "fine");
  await writer.agent.check.fail(`service:${id}`);
  await awaitThat("gone after a failure", [], () => passing("shop"));
  await writer.agent.check.warn(`service:${id}`);
  assert.ok((await reader.health.state("any")).length > 0);
  await writer.agent.service.maintenance({ id, enable: true, reason: "update" });
  await awaitThat("the reason of maintenance", ["update"], async () =>
    (await reader.health.checks("shop")).filter((check) => check.CheckID.startsWith("_service_maintenance:")).map((check) => check.Notes));
  await writer.agent.service.maintenance({ id, enable: false });
  await writer.agent.service.deregister(id);
  await awaitThat("gone", [], async () => reader.catalog.service.nodes("shop"));
}

async function watches() {
  const watch = reader.watch({ method: reader.health.service, options: { service: "watched", passing: true, wait: "10s" } });
  const seen = [];
  const errors = [];
  watch.on("change", (data) => seen.push(data.map((entry) => entry.Service.Port).join(",")));
  watch.on("error", (error) => errors.push(error.message));
  await awaitThat("the first answer", [""], async () => seen.slice(0, 1));
  await writer.agent.service.register({ name: "watched", id: "w1", port: 1 });
  await awaitThat("the first instance", "1", async () => seen.at(-1));
  await writer.agent.service.register({ name: "watched", id: "w2", port: 2 });
  await awaitThat("the second instance", "1,2", async () => seen.at(-1));
  await writer.agent.service.deregister("w1");
  await awaitThat("the first one gone", "2", async () => seen.at(-1));
  watch.end();
  await writer.agent.service.deregister("w2");
  assert.deepEqual(errors, []);
}

async function keepsKeys() {
  assert.equal(await writer.kv.set("node/a b", "value"), true);
  const item = await writer.kv.get("node/a b");
  assert.deepEqual([item.Key, item.Value, item.Flags], ["node/a b", "value", 0]);
  await writer.kv.set({ key: "node/c", value: "3", flags: 9 });
  await awaitThat("the keys at the other agent", ["node/a b", "node/c"], async () => reader.kv.keys("node/").catch(() => []));
  const watch = reader.watch({ method: reader.kv.get, options: { key: "node/c", wait: "10s" } });
  const seen = [];
  watch.on("change", (found) => seen.push(found && found.Value));
  await awaitThat("the value", ["3"], async () => seen.slice(0, 1));
  await writer.kv.set("node/c", "4");
  await awaitThat("the new value", "4", async () => seen.at(-1));
  watch.end();
  assert.equal(await writer.kv.del({ key: "node/", recurse: true }), true);
  await awaitThat("no key", true, async () => (await reader.kv.get("node/c")) === undefined);
}

async function readsTheCluster() {
  assert.deepEqual(await reader.catalog.datacenters(), [process.env.DATACENTER]);
  assert.deepEqual((await reader.catalog.services()).consul, []);
  const nodes = (await reader.catalog.node.list()).map((node) => node.Node);
  assert.ok(nodes.includes(process.env.WRITE_NODE), `${process.env.WRITE_NODE} in ${nodes}`);
  const node = await reader.catalog.node.services(process.env.WRITE_NODE);
  assert.equal(node.Node.Node, process.env.WRITE_NODE);
  assert.equal(await reader.catalog.node.services("nobody"), undefined);
  assert.ok((await reader.status.leader()).includes(":"));
  assert.ok((await reader.status.peers()).length > 0);
  assert.ok((await reader.agent.members()).every((member) => member.Status === 1));
  assert.equal((await reader.agent.self()).Config.NodeName, process.env.READ_NODE);
  await writer.catalog.register({ node: "node-ext", address: "192.0.2.9", service: { service: "ext", port: 1 } });
  await awaitThat("an external node", ["node-ext"], async () => (await reader.catalog.service.nodes("ext")).map((entry) => entry.Node));
  await writer.catalog.deregister("node-ext");
  await awaitThat("no external node", [], async () => reader.catalog.service.nodes("ext"));
  await writer.event.fire("node-deploy", "v8");
  await awaitThat("an event", ["v8"], async () => (await reader.event.list("node-deploy")).map((event) => String(event.Payload)));
}

async function hearsErrors() {
  await assert.rejects(writer.agent.service.register({ name: "bad", check: { ttl: "soon" } }), (error) => error.statusCode === 400);
  await assert.rejects(reader.catalog.services({ dc: "dc9" }), /No path to datacenter/);
  await assert.rejects(writer.agent.check.pass("service:nobody"), (error) => [404, 500].includes(error.statusCode));
}

(async () => {
  for (const test of [registersAndBeats, watches, keepsKeys, readsTheCluster, hearsErrors]) {
    await test();
    console.log(`${test.name}: ok`);
  }
  process.exit(0);
})().catch((error) => {
  console.log(error.stack || error);
  process.exit(1);
});
