// Parse an AsyncAPI document. Argument: its path. Prints what the parser finds, one line each.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const found of diagnostics) console.log(found.code, found.message, found.path.join("/"));
