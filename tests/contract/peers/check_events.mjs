// Holds the events on standard input (a JSON array) against the schemas in the directory; prints what does not fit.
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";

const ajv = new Ajv({ strict: false, validateFormats: false });
const schemas = new Map();
const wrong = [];
for (const event of JSON.parse(readFileSync(0, "utf8"))) {
  if (!schemas.has(event.type))
    schemas.set(event.type, ajv.compile(JSON.parse(readFileSync(`${process.argv[2]}/${event.type}.json`, "utf8"))));
  const fits = schemas.get(event.type);
  if (!fits(event)) wrong.push({ type: event.type, errors: fits.errors.map(({ instancePath, message }) => `${instancePath} ${message}`) });
}
console.log(JSON.stringify(wrong));
