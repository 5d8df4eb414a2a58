// Reads messages with two foreign parsers and prints one line of JSON for each.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { simpleParser } from 'mailparser'
import PostalMime from 'postal-mime'

const hash = (content) => createHash('sha256').update(content).digest('hex')
const list = (found) => (found || []).flatMap((a) => (a.group ? a.group : [a])).map((a) => a.address || '')
const bytes = (content) => Buffer.from(content instanceof ArrayBuffer ? new Uint8Array(content) : content || '')
const files = (found, name, type) => (found || []).map((a) => [a[name] || '', (a[type] || '').toLowerCase(), bytes(a.content).length, hash(bytes(a.content))])
const flat = (found) => (Array.isArray(found) ? found : found ? [found] : []).flatMap((a) => a.value)

for (const path of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  const raw = readFileSync(path)
  const line = { path }
  try {
    const m = await simpleParser(raw, { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true })
    line.mailparser = { subject: m.subject || '', from: list(flat(m.from)), to: list(flat(m.to)), date: m.date ? +m.date : null, text: m.text || '', html: m.html || '', files: files(m.attachments, 'filename', 'contentType') }
  } catch (e) { line.mailparser = null }
  try {
    const p = await PostalMime.parse(raw)
    line.postal = { subject: p.subject || '', from: p.from ? list([p.from]) : [], to: list(p.to), date: p.date ? Date.parse(p.date) || null : null, text: p.text || '', html: p.html || '', files: files(p.attachments, 'filename', 'mimeType') }
  } catch (e) { line.postal = null }
  console.log(JSON.stringify(line))
}
