// A component from a core module and its WIT: node new.mjs <folder of jco> <core.wasm> <function.wit> <component.wasm>

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [jco, core, wit, into] = process.argv.slice(2);
const { componentEmbed, componentNew } = await import(pathToFileURL(resolve(jco, "dist/api.js")));
const witSource = await readFile(wit, "utf8");
const embedded = await componentEmbed({ binary: await readFile(core), witSource, world: "function" });
await writeFile(into, await componentNew(embedded, null));
