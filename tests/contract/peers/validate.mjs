// Reads an AsyncAPI document on standard input; prints what AsyncAPI's own parser finds wrong with it, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const found = diagnostics.map(({ severity, message, path }) => ({ severity, message, path: path.join("/") }));
console.log(JSON.stringify({ operations: document?.operations().all().length ?? 0, found }));
