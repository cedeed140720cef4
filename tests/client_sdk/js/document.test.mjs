import assert from "node:assert/strict";
import { test } from "node:test";

import { apply, canonical, diff, revision, valueOf } from "../../../client_sdk/js/document.js";

test("patches apply as the RFC says", () => {
  // RFC 7396, appendix A, as far as it concerns objects
  const examples = [
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [{ e: 1 }, { a: 1 }, { e: 1, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [document, patch, result] of examples) {
    const before = JSON.stringify(document);
    assert.deepEqual(apply(document, patch), result);
    assert.equal(JSON.stringify(document), before);
  }
});

test("numbers are written as the RFC says", () => {
  // RFC 8785, appendix B
  const examples = [
    [0, "0"],
    [-0, "0"],
    [5e-324, "5e-324"],
    [1.7976931348623157e308, "1.7976931348623157e+308"],
    [295147905179352830000, "295147905179352830000"],
    [1e21, "1e+21"],
    [9.999999999999997e-7, "9.999999999999997e-7"],
    [0.000001, "0.000001"],
    [333333333.33333325, "333333333.33333325"],
  ];
  for (const [number, written] of examples) {
    assert.equal(canonical(number), written);
  }
});

test("names sort as UTF-16, and texts are written as they are", () => {
  assert.equal(canonical({ "\ue000": 1, "\u{1f600}": "\u2028" }), '{"\u{1f600}":"\u2028","\ue000":1}');
});

test("what JSON can not hold is refused", () => {
  for (const value of [NaN, Infinity, [-Infinity], { a: undefined }, () => 1, 1n]) {
    assert.throws(() => canonical(value), TypeError);
  }
});

test("the revision is sixteen digits of SHA-256", async () => {
  const text = canonical({ b: 1, a: {} });
  assert.equal(text, '{"a":{},"b":1}');
  const whole = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  assert.equal(await revision(text, crypto.subtle), Buffer.from(whole).toString("hex").slice(0, 16));
});

// --- names that objects have already ---------------------------------------------------------------------------------

const POISON =
  '{"__proto__":{"polluted":true,"list":[1]},"constructor":{"prototype":{"polluted":true}},"toString":"x"}';

test("a document with a name like __proto__ is a document like any other", () => {
  const poison = JSON.parse(POISON);
  const patched = apply({ a: { b: 1 } }, { a: poison });
  assert.equal(canonical(patched.a), canonical({ b: 1, ...poison }));
  assert.equal(Object.getPrototypeOf(patched.a), Object.prototype);
  assert.equal(
    canonical(apply(patched, { a: JSON.parse('{"__proto__":{"polluted":null}}') }).a.constructor),
    canonical(poison.constructor),
  );
  assert.deepEqual(Object.keys(apply(poison, JSON.parse('{"__proto__":null,"constructor":null}'))), ["toString"]);
  assert.equal({}.polluted, undefined);
  assert.equal(Object.polluted, undefined);
});

test("a patch from and to such names is exact", () => {
  const poison = JSON.parse(POISON);
  const other = JSON.parse('{"__proto__":{"polluted":false},"valueOf":1}');
  for (const [before, after] of [
    [poison, other],
    [other, poison],
    [{}, poison],
    [poison, {}],
    [{ a: poison }, { a: other }],
  ]) {
    const patch = diff(before, after);
    assert.equal(canonical(apply(before, patch)), canonical(after));
    assert.deepEqual(diff(after, after), {});
  }
  assert.deepEqual(Object.keys(diff({}, JSON.parse('{"toString":1}'))), ["toString"]);
  assert.equal(canonical(apply({}, JSON.parse('{"constructor":{"name":"x"}}'))), '{"constructor":{"name":"x"}}');
});

test("what is inherited is not held", () => {
  assert.equal(valueOf({}, "constructor"), undefined);
  assert.equal(valueOf({}, "__proto__"), undefined);
  assert.equal(valueOf({ a: 1 }, "a"), 1);
});
