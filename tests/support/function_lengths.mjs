// Prints, as JSON, where each function of the files named begins and how many lines it has: FILE... -> [[file, line, name, lines]].
// The first argument is the path of the TypeScript library, which parses them.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [library, ...files] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(library);
const found = [];
for (const file of files) {
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true, ts.ScriptKind.JS);
  const visit = (node) => {
    if (ts.isFunctionLike(node) && node.body) {
      const first = source.getLineAndCharacterOfPosition(node.getStart(source, false)).line;
      const last = source.getLineAndCharacterOfPosition(node.getEnd()).line;
      found.push([file, first + 1, node.name ? node.name.getText(source) : "=>", last - first + 1]);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
}
console.log(JSON.stringify(found));
