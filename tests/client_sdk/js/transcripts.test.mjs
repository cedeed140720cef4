import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { revision } from "../../../client_sdk/js/document.js";
import { makeOptions } from "../../../client_sdk/js/options.js";
import { Session } from "../../../client_sdk/js/session.js";
import { Replay, exemption, parse } from "./support/replay.mjs";

const directory = new URL("../../transcripts/", import.meta.url);
const files = readdirSync(directory).filter((name) => name.endsWith(".jsonl"));
const transcripts = files.map((name) => [name, parse(readFileSync(new URL(name, directory), "utf8"))]);
const sdk = { Session, makeOptions, revision };

for (const [name, transcript] of transcripts) {
  if (exemption(transcript) === null) {
    test(`the session plays its part in ${name}`, async () => {
      await new Replay(transcript, sdk, crypto.subtle).run();
    });
  }
}

test("only what a page can not see, and what no SDK does, is not replayed", () => {
  const exempt = transcripts.filter(([, transcript]) => exemption(transcript) !== null);
  const refused = transcripts.filter(([, { lines }]) => lines.some((line) => line.do === "refuse"));
  const forGateways = transcripts.filter(([, { header }]) => !header.replay.includes("sdk"));
  const names = (some) => some.map(([name]) => name).sort();
  assert.deepEqual(names(refused), ["handshake_refused.jsonl"]);
  assert.deepEqual(names(exempt), names([...refused, ...forGateways]));
  assert.ok(forGateways.every(([, { lines }]) => lines.some((line) => line.by === "raw")));
});

test("a session that does something else is found out", async () => {
  const transcript = parse(readFileSync(new URL("sync.jsonl", directory), "utf8"));
  const holds = transcript.lines.find((line) => line.do === "holds");
  holds.docs = { "user:u_7f3k": "0".repeat(16) };
  await assert.rejects(new Replay(transcript, sdk, crypto.subtle).run(), /instead of/);
});
