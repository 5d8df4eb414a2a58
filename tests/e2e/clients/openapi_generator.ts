// What an app does by openapi-generator's TypeScript client: list, page, get, flag, search, send, and read a problem.
// Arguments: base URL, token. Prints JSON.
import { Configuration, MessagesApi, ResponseError, SendingApi } from "postgate-client";

async function main(basePath: string, token: string): Promise<void> {
  const configuration = new Configuration({ basePath, accessToken: token });
  const messages = new MessagesApi(configuration);
  const sending = new SendingApi(configuration);
  const accountId = "me";

  const page = await messages.listMessages({ accountId, limit: 3 });
  const first = page.items[0];
  if (first.view !== "summary") throw new Error(first.view);
  const second = await messages.listMessages({ accountId, limit: 3, cursor: page.nextCursor! });
  const full = await messages.getMessage({ accountId, messageId: first.id, view: "full" });
  const changeRequest = { keywords: { add: ["$flagged"] } };
  const flagged = await messages.updateMessage({ accountId, messageId: first.id, changeRequest });
  const searchRequest = { filter: { from: first.from[0].address } };
  const found = await messages.searchMessages({ accountId, searchRequest });
  const sendRequest = { to: [{ address: "bob@demo.test" }], subject: "By the TypeScript client", text: "Hello" };
  const sent = await sending.sendMessage({ accountId, sendRequest, idempotencyKey: "typescript-1" });
  const again = await sending.sendMessage({ accountId, sendRequest, idempotencyKey: "typescript-1" });
  const problem = await messages.getMessage({ accountId, messageId: "msg_unknown" }).then(
    () => "none",
    async (error: ResponseError) => (await error.response.json()).code,
  );

  console.log(
    JSON.stringify({
      listed: page.items.length,
      paged: second.items.length,
      text: full.view === "full" && typeof full.text === "string",
      keywords: flagged.keywords,
      found: found.items.length,
      sent: sent.id,
      again: again.id,
      problem,
    }),
  );
}

main(process.argv[2], process.argv[3]);
