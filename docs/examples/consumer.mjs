// A consumer in another stack: keeps each event once, believes what a seal proves, and acknowledges that and no more.
//   npm install mqtt && node consumer.mjs mqtt://127.0.0.1:1883 NODE-ROLE.jwk CONSUMER ACK.pem ACK-KID
import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [broker, roleFile, name, ackFile, kid] = process.argv.slice(2);
const jwk = JSON.parse(readFileSync(roleFile, "utf8"));
const [role, ackKey] = [createPublicKey({ key: jwk, format: "jwk" }), createPrivateKey(readFileSync(ackFile))];
const runs = {}; // epoch -> class -> { seq: the last one held, head: [seq, hash] of the chain so far, rows: what waits }
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function* bodies(text) { // Of one event or of an array of them, byte for byte as they were hashed: never encoded again.
  let [depth, start] = [0, 0];
  for (const { 0: mark, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (mark === "{" && depth++ === 0) start = index;
    if (mark === "}" && --depth === 0) yield text.slice(start, index + 1);
  }
}
function sealed(event, body) { // The role key's signature over the seal's own bytes, with the signature empty.
  const { signature, kid } = event.data, unsigned = body.replace(`"signature":"${signature}"`, '"signature":""');
  return kid === jwk.kid && verify(null, Buffer.from(unsigned), role, Buffer.from(signature, "base64url"));
}
function take(run, event, body) { // Here a real consumer writes to its database, and only then acknowledges.
  const { first, last } = event.seq ? { first: event.seq, last: event.seq } : event.data; // or: it was thinned
  run.rows.push({ event, body, first, last });
  for (let row; (row = run.rows.find((each) => each.first <= run.head[0] + 1)); ) {
    run.rows.splice(run.rows.indexOf(row), 1);
    if (row.last <= run.head[0]) continue;
    const audit = row.event.lmclass === "audit", before = Buffer.from(run.head[1] ?? "0".repeat(64), "hex");
    if (audit && row.event.prev !== before.toString("hex")) return console.log(JSON.stringify({ broken: row.event.seq }));
    run.head = [row.last, audit ? createHash("sha256").update(before).update(row.body).digest("hex") : null];
    if (!audit || (row.event.type === "node.journal.sealed" && sealed(row.event, row.body))) run.held = run.head;
    console.log(JSON.stringify({ seq: row.last, type: row.event.type, subject: row.event.subject }));
  }
}
const client = mqtt.connect(broker, { clientId: `${name}-example`, clean: false });
client.on("connect", () => client.subscribe("lm/v1/+/+/evt/#", { qos: 1 }));
client.on("message", (topic, payload) => {
  const node = topic.split("/").slice(0, 4).join("/"), journals = {};
  for (const body of bodies(payload.toString())) {
    const event = JSON.parse(body), classes = (runs[event.epoch] ??= {});
    take((classes[event.lmclass] ??= { head: [0, null], held: null, rows: [] }), event, body);
  }
  for (const [epoch, classes] of Object.entries(runs))
    journals[epoch] = Object.fromEntries(Object.entries(classes).flatMap(([c, run]) => (run.held ? [[c, run.held]] : [])));
  const claims = { iss: name, aud: `${node.split("/")[3]}/${jwk.kid}`, journals };
  const signing = `${base64({ alg: "Ed25519", typ: "lm-ack+jwt", kid })}.${base64(claims)}`;
  client.publish(`${node}/ack/${name}`, `${signing}.${sign(null, Buffer.from(signing), ackKey).toString("base64url")}`, { qos: 1 });
});
