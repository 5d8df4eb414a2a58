// Lint an OpenAPI document by Redocly's recommended rules. Argument: its path. Prints what they find, one line each.
import core from "@redocly/openapi-core";

const config = await core.createConfig({ extends: ["recommended"] });
for (const found of await core.lint({ ref: process.argv[2], config })) {
  console.log(found.severity, found.ruleId, found.message, found.location[0].pointer);
}
