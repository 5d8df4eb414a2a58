// What an app with nodemailer does: send over one pooled connection, text, HTML and an attachment, in a foreign script.
// Arguments: port, user, password, file of the certificate authority, recipient. Prints one JSON object.
import { createTransport } from 'nodemailer';
import { readFileSync } from 'node:fs';

const [port, user, pass, authority, to] = process.argv.slice(2);
const transport = createTransport({
  host: 'localhost', port: Number(port), secure: false, requireTLS: true, pool: true, maxConnections: 1,
  auth: { user, pass }, tls: { ca: readFileSync(authority) },
});
const results = [];
for (const subject of ['Grüße aus Köln', 'こんにちは']) {
  const sent = await transport.sendMail({
    from: user, to, subject, text: `.${subject}\n..`, html: `<p>${subject}</p>`,
    attachments: [{ filename: 'a.bin', content: Buffer.alloc(200000, 7) }],
  });
  results.push({ accepted: sent.accepted, response: sent.response });
}
const refused = await transport.sendMail({ from: 'bob@demo.test', to, subject: 'No', text: 'No' }).catch((error) => error);
transport.close();
console.log(JSON.stringify({ results, refused: refused.responseCode }));
