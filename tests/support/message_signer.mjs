// Another implementation of RFC 9421, npm's http-message-signatures: it signs a request and makes it, or verifies one that
// was made. The first argument is the library; a JSON object comes by stdin, and what came of it goes to stdout.
import { createHash } from "node:crypto";
import http from "node:http";
import { createRequire } from "node:module";
import { buffer, text } from "node:stream/consumers";

const { createSigner, createVerifier, httpbis } = createRequire(import.meta.url)(process.argv[2]);
const ALWAYS = ["@method", "@authority", "@path", "@query"];
const OPTIONAL = ["authorization", "content-digest"];
const ALGORITHM = "hmac-sha256";

const digest = (body) => `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
const secretOf = (told) => Buffer.from(told.secret, "base64url");

function covered(headers) {
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  return [...ALWAYS, ...OPTIONAL.filter((name) => names.includes(name))];
}

async function signed(told) {
  const headers = told.body === "" ? told.headers : { ...told.headers, "Content-Digest": digest(told.body) };
  const config = {
    key: createSigner(secretOf(told), ALGORITHM, told.kid),
    name: "npm",
    params: ["created", "keyid", "nonce", "alg", "tag"],
    paramValues: { nonce: told.nonce, tag: "gateway" },
    fields: covered(headers),
  };
  return (await httpbis.signMessage(config, { method: told.method, url: told.url, headers })).headers;
}

function begin(told, headers) {
  const { hostname, port, pathname, search } = new URL(told.url);
  return http.request({ hostname, port, path: pathname + search, method: told.method, headers, agent: false });
}

async function answerOf(response) {
  return { status: response.statusCode, headers: response.headers, body: (await buffer(response)).toString("latin1") };
}

async function ask(told) {
  const headers = { ...(await signed(told)), "Content-Length": Buffer.byteLength(told.body) };
  return new Promise((resolve, reject) => {
    const request = begin(told, headers);
    request.on("error", reject);
    request.on("response", (response) => resolve(answerOf(response)));
    request.end(told.body);
  });
}

// What came on the socket until the session was ready; frames of a server are not masked.
async function handshake(told) {
  const upgrade = {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const headers = { ...(await signed(told)), ...upgrade };
  return new Promise((resolve, reject) => {
    const request = begin(told, headers);
    request.on("error", reject);
    request.on("response", (response) => resolve(answerOf(response)));
    request.on("upgrade", (response, socket, head) => {
      let came = head.toString("latin1");
      const look = () => {
        if (came.includes('"op":"ready"')) {
          socket.destroy();
          resolve({ status: response.statusCode, headers: response.headers, body: came });
        }
      };
      socket.on("data", (data) => {
        came += data.toString("latin1");
        look();
      });
      socket.on("close", () => reject(new Error(`closed before it was ready: ${came}`)));
      look();
    });
    request.end();
  });
}

async function verify(told) {
  const verifying = { id: told.kid, algs: [ALGORITHM], verify: createVerifier(secretOf(told), ALGORITHM) };
  const config = {
    keyLookup: async ({ keyid }) => (keyid === told.kid ? verifying : null),
    requiredParams: ["created", "keyid", "nonce", "tag"],
    requiredFields: covered(told.headers),
    maxAge: 60,
    tolerance: 30,
  };
  const { method, url, headers } = told;
  const good = await httpbis.verifyMessage(config, { method, url, headers });
  return { verified: good === true && (told.body === "" || headers["content-digest"] === digest(told.body)) };
}

const told = JSON.parse(await text(process.stdin));
const made = await { ask, handshake, verify }[told.do](told);
process.stdout.write(JSON.stringify(made));
