// What an app does by openapi-typescript and openapi-fetch: list, page, get, flag, search, send, and read a problem.
// Arguments: base URL, token. Prints JSON.
import createClient from "openapi-fetch";
import type { paths } from "./generated";

async function main(baseUrl: string, token: string): Promise<void> {
  const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
  const me = { account_id: "me" };

  const { data: page } = await client.GET("/v1/accounts/{account_id}/messages", { params: { path: me, query: { limit: 3 } } });
  const first = page!.items[0];
  if (first.view !== "summary") throw new Error(first.view);
  const author: string = first.from[0].address;
  const query = { limit: 3, cursor: page!.next_cursor! };
  const { data: second } = await client.GET("/v1/accounts/{account_id}/messages", { params: { path: me, query } });
  const path = { ...me, message_id: first.id };
  const { data: full } = await client.GET("/v1/accounts/{account_id}/messages/{message_id}", {
    params: { path, query: { view: "full" } },
  });
  const { data: flagged } = await client.PATCH("/v1/accounts/{account_id}/messages/{message_id}", {
    params: { path },
    body: { keywords: { add: ["$flagged"] } },
  });
  const { data: found } = await client.POST("/v1/accounts/{account_id}/messages/search", {
    params: { path: me },
    body: { filter: { from: author } },
  });
  const send = {
    params: { path: me, header: { "idempotency-key": "fetch-1" } },
    body: { to: [{ address: "bob@demo.test" }], subject: "By openapi-fetch", text: "Hello" },
  };
  const { data: sent } = await client.POST("/v1/accounts/{account_id}/send", send);
  const { data: again } = await client.POST("/v1/accounts/{account_id}/send", send);
  const { error } = await client.GET("/v1/accounts/{account_id}/messages/{message_id}", {
    params: { path: { ...me, message_id: "msg_unknown" } },
  });
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
