// What an app does by the client of @hey-api/openapi-ts: list, page, get, flag, search, send, and read a problem.
// Arguments: base URL, token. Prints JSON.
import { getMessage, listMessages, searchMessages, sendMessage, updateMessage } from "./generated";
import { client } from "./generated/client.gen";

async function main(baseUrl: string, token: string): Promise<void> {
  client.setConfig({ baseUrl, auth: token });
  const me = { account_id: "me" };

  const { data: page } = await listMessages({ path: me, query: { limit: 3 } });
  const first = page!.items[0];
  if (first.view !== "summary") throw new Error(first.view);
  const { data: second } = await listMessages({ path: me, query: { limit: 3, cursor: page!.next_cursor! } });
  const path = { ...me, message_id: first.id };
  const { data: full } = await getMessage({ path, query: { view: "full" } });
  const { data: flagged } = await updateMessage({ path, body: { keywords: { add: ["$flagged"] } } });
  const { data: found } = await searchMessages({ path: me, body: { filter: { from: first.from[0].address } } });
  const send = {
    path: me,
    headers: { "idempotency-key": "hey-1" },
    body: { to: [{ address: "bob@demo.test" }], subject: "By hey-api", text: "Hello" },
  };
  const { data: sent } = await sendMessage(send);
  const { data: again } = await sendMessage(send);
  const { error } = await getMessage({ path: { ...me, message_id: "msg_unknown" } });
  console.log(
    JSON.stringify({
      listed: page!.items.length,
      paged: second!.items.length,
      text: full!.view === "full" && typeof full!.text === "string",
      keywords: flagged!.keywords,
      found: found!.items.length,
      sent: sent!.id,
      again: again!.id,
      problem: error!.code,
    }),
  );
}

main(process.argv[2], process.argv[3]);
