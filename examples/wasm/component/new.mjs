import { componentEmbed, componentNew } from '@bytecodealliance/jco';
import { readFile, writeFile } from 'node:fs/promises';
const [core, wit, out] = process.argv.slice(2);
const embedded = await componentEmbed({ binary: await readFile(core), witSource: await readFile(wit, 'utf8'), world: 'function' });
await writeFile(out, await componentNew(embedded, null));
