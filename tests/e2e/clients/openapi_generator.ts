// What an app does by the generated TypeScript client: list, flag, send, and read the result of each.
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
  const changeRequest = { keywords: { add: ["$flagged"] } };
  const flagged = await messages.updateMessage({ accountId, messageId: first.id, changeRequest });
  const sendRequest = { to: [{ address: "bob@demo.test" }], subject: "By the TypeScript client", text: "Hello" };
  const sent = await sending.sendMessage({ accountId, sendRequest, idempotencyKey: "typescript-1" });
  const again = await sending.sendMessage({ accountId, sendRequest, idempotencyKey: "typescript-1" });
  const problem = await messages.getMessage({ accountId, messageId: "msg_unknown" }).then(
    () => "none",
    async (error: ResponseError) => (await error.response.json()).code,
  );

  const keywords = flagged.keywords;
  console.log(JSON.stringify({ listed: page.items.length, keywords, sent: sent.id, again: again.id, problem }));
}

main(process.argv[2], process.argv[3]);
