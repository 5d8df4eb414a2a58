// What an app does by orval's fetch client: list, page, get, flag, search, send, and read a problem.
// Arguments: base URL, token. Prints JSON.
import * as api from "./generated";

const [baseUrl, token] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };

/** orval's URLs begin with a path: the address of the server and the token are added here. */
const plainFetch = globalThis.fetch;
globalThis.fetch = (path, options) =>
  plainFetch(`${baseUrl}${path}`, { ...options, headers: { ...headers, ...(options?.headers as object) } });

async function main(): Promise<void> {
  const page = await api.listMessages("me", { limit: 3 });
  if (page.status !== 200) throw new Error(String(page.status));
  const first = page.data.items[0];
  if (first.view !== "summary") throw new Error(first.view);
  const second = await api.listMessages("me", { limit: 3, cursor: page.data.next_cursor! });
  if (second.status !== 200) throw new Error(String(second.status));
  const full = await api.getMessage("me", first.id, { view: "full" });
  if (full.status !== 200) throw new Error(String(full.status));
  const flagged = await api.updateMessage("me", first.id, { keywords: { add: ["$flagged"] } });
  if (flagged.status !== 200) throw new Error(String(flagged.status));
  const found = await api.searchMessages("me", { filter: { from: first.from[0].address } });
  if (found.status !== 200) throw new Error(String(found.status));
  const order = { to: [{ address: "bob@demo.test" }], subject: "By orval", text: "Hello" };
  const once = { headers: { "idempotency-key": "orval-1" } };
  const sent = await api.sendMessage("me", order, once);
  const again = await api.sendMessage("me", order, once);
  if (sent.status !== 202 || again.status !== 202) throw new Error(String(sent.status));
  const missing = await api.getMessage("me", "msg_unknown");
  console.log(
    JSON.stringify({
      listed: page.data.items.length,
      paged: second.data.items.length,
      text: full.data.view === "full" && typeof full.data.text === "string",
      keywords: flagged.data.keywords,
      found: found.data.items.length,
      sent: sent.data.id,
      again: again.data.id,
      problem: missing.status === 404 && missing.data.code,
    }),
  );
}

main();
