// What an app with imapflow does in a day: list, read, flag, move, search, append, and hear of new mail by IDLE.
// Arguments: port, user, password, file with a message to append. Prints one JSON object.
import { ImapFlow } from 'imapflow';
import { readFileSync } from 'node:fs';

const [port, user, pass, file] = process.argv.slice(2);
const client = new ImapFlow({ host: '127.0.0.1', port: Number(port), secure: false, auth: { user, pass }, logger: false });
const found = { subjects: [] };

await client.connect();
const mailboxes = await client.list({ statusQuery: { messages: true, unseen: true } });
found.specialUses = Object.fromEntries(mailboxes.filter((one) => one.specialUse).map((one) => [one.path, one.specialUse]));
found.messages = mailboxes.find((one) => one.path === 'INBOX').status.messages;
const lock = await client.getMailboxLock('INBOX');
try {
  for await (const message of client.fetch('1:*', { uid: true, envelope: true, bodyStructure: true, flags: true })) {
    found.subjects.push(message.envelope.subject);
  }
  const whole = await client.download('1');
  const chunks = [];
  for await (const chunk of whole.content) chunks.push(chunk);
  found.firstBytes = Buffer.concat(chunks).length;
  found.searched = await client.search({ subject: 'two', seen: false }, { uid: true });
  await client.messageFlagsAdd(found.searched, ['\\Flagged', '$Done'], { uid: true });
  const moved = await client.messageMove(found.searched, 'Archive', { uid: true });
  found.movedTo = [...moved.uidMap.values()];
  found.left = client.mailbox.exists;
  const appended = await client.append('Drafts', readFileSync(file), ['\\Draft']);
  found.appendedUid = appended.uid;
  const arrived = new Promise((resolve) => client.once('exists', (news) => resolve(news.count)));
  process.stdout.write('idle\n');
  client.idle();
  found.countAfterDelivery = await arrived;
} finally {
  lock.release();
}
await client.mailboxCreate('Projects/2024');
await client.mailboxRename('Projects', 'Archived projects');
found.paths = (await client.list()).map((one) => one.path).filter((path) => path.startsWith('Archived'));
await client.logout();
process.stdout.write(JSON.stringify(found) + '\n');
