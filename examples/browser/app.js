// A mail app on Postgate's public API, from its own origin. Text of messages is set by textContent and their HTML goes
// into a sandboxed frame without scripts, so nothing that a sender writes runs here.
import { Postgate, Stream } from './postgate.js';

const $ = (selector) => document.querySelector(selector);
const h = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const button = (text, onclick) => h('button', { onclick }, text);
const backend = async (method, path) => { // our own back end, serve.py
  const answer = await fetch(path, { method });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail);
  return content;
};

const { gateway } = await backend('GET', '/config');
const postgate = new Postgate(gateway, async () => (await backend('POST', '/token')).token);
const messages = new Map(); // those of the list, by id
const view = { mailbox: null, q: '', next: null, open: null };
let mailboxes = [];
let queue = Promise.resolve();
/** Loads and events change the list one after the other, so that a late answer never undoes an event. */
const inOrder = (work) => (queue = queue.catch(() => {}).then(work));

const roleId = (role) => mailboxes.find((mailbox) => mailbox.role === role)?.id;
const has = (message, keyword) => message.keywords.includes(keyword);
const names = (people) => people.map((person) => person.name || person.address).join(', ') || '(nobody)';
const newestFirst = (a, b) => b.received_at.localeCompare(a.received_at) || b.id.localeCompare(a.id);
const sorted = () => [...messages.values()].sort(newestFirst);
const when = (time, today = new Date()) => new Date(time).toDateString() === today.toDateString()
  ? new Date(time).toLocaleTimeString([], { timeStyle: 'short' })
  : new Date(time).toLocaleDateString([], { day: 'numeric', month: 'short' });

const toast = (text) => {
  $('#toast').textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => ($('#toast').textContent = ''), 6000);
};
addEventListener('unhandledrejection', (event) => (event.preventDefault(), toast(event.reason.message)));

// ---- mailboxes and the list

/** Do this work; if it fails, say why in place of the list, with a button. */
const attempt = (work) => work().catch((error) =>
  $('#note').replaceChildren(error.message, button('Try again', () => attempt(work))));

const load = (cursor) => inOrder(async () => {
  const where = view.q ? { q: view.q } : { mailbox_id: view.mailbox };
  const page = await postgate.get('/messages', { ...where, limit: 50, ...(cursor && { cursor }) });
  if (!cursor) messages.clear();
  page.items.forEach((message) => messages.set(message.id, message));
  view.next = page.next_cursor;
  drawList();
  return page.state;
});

function drawList(note = view.q ? `No mail matches “${view.q}”.` : 'Nothing here. Enjoy the quiet.') {
  $('#list').replaceChildren(...sorted().map(row));
  $('#list [aria-current]')?.scrollIntoView({ block: 'nearest' });
  $('#more').hidden = !view.next;
  $('#note').textContent = messages.size ? '' : note;
}

function row(message) {
  const people = view.mailbox === roleId('sent') ? `To ${names(message.to)}` : names(message.from);
  const item = h('button', { onclick: () => open(message.id), ariaCurrent: message.id === view.open ? 'true' : null },
    h('b', {}, people), h('time', {}, when(message.received_at)),
    h('span', {}, message.subject || '(no subject)'), h('small', {}, message.preview ?? ''));
  const classes = { unread: !has(message, '$seen'), flagged: has(message, '$flagged'), attached: message.has_attachments };
  Object.entries(classes).forEach(([name, isSet]) => item.classList.toggle(name, isSet));
  return h('li', {}, item);
}

async function loadMailboxes() { // at the start and when there are others; later counts come as frames
  const { items } = await postgate.get('/mailboxes'); // by path
  mailboxes = items.sort((a, b) => (b.role === 'inbox') - (a.role === 'inbox'));
  view.mailbox ??= roleId('inbox');
  drawMailboxes();
}

const drawMailboxes = () => $('#mailboxes').replaceChildren(...mailboxes.map((mailbox) => {
  const ariaCurrent = mailbox.id === view.mailbox && !view.q ? 'true' : null;
  const badge = h('span', {}, mailbox.unread || '');
  return h('li', {}, h('button', { onclick: () => show(mailbox.id), ariaCurrent }, mailbox.path, badge));
}));

function show(mailbox, q = '') {
  Object.assign(view, { mailbox, q, next: null });
  messages.clear();
  drawList('Loading …');
  $('#search').q.value = q;
  drawMailboxes();
  return attempt(load);
}

// ---- a message

/**
 * Show a message. The gateway has sanitised its HTML, where pictures of the message are signed links, which an <img>
 * can load, and quoted history is in <details>. Images from elsewhere are blocked, or fetched by the gateway (`proxy`),
 * so that the sender does not see who reads.
 */
async function open(id, images = 'block') {
  view.open = id;
  drawList();
  const message = await postgate.get(`/messages/${id}`, { view: 'full', quotes: 'fold', images });
  if (view.open !== id) return; // another message by now
  drawReader(message, images);
  if (!has(message, '$seen')) setKeyword('$seen', true);
}

function drawReader(message, images) {
  const move = h('select', { title: 'Move', onchange: () => moveTo(move.value) }, h('option', { value: '' }, 'Move to …'),
    ...mailboxes.map((mailbox) => h('option', { value: mailbox.id }, mailbox.path)));
  const files = message.attachments.filter((file) => file.disposition === 'attachment');
  const isBlocked = images === 'block' && message.html?.includes('data-blocked-src');
  const showImages = isBlocked ? [button('Show images', () => open(message.id, 'proxy'))] : [];
  $('#reader').replaceChildren(
    h('h1', {}, message.subject || '(no subject)'),
    h('p', {}, h('b', {}, names(message.from)), ` to ${names(message.to)}, ${new Date(message.received_at).toLocaleString()}`),
    h('div', { className: 'actions' }, button('Reply', () => reply(message)), button('Star', star), button('Unread', unread),
      move, ...files.map((file) => button(`↓ ${file.filename ?? 'file'}`, () => download(message, file))), ...showImages,
      button('Close', close)),
    message.html === null ? h('pre', {}, message.text) : frame(message.html));
}

function frame(html) {
  const policy = `default-src 'none'; style-src 'unsafe-inline'; img-src data: ${gateway}/v1/links/`;
  const head = `<meta http-equiv="Content-Security-Policy" content="${policy}"><base target="_blank">
    <style>body { font: 15px/1.6 system-ui, sans-serif; margin: 0; overflow-wrap: anywhere } img { max-width: 100% }</style>`;
  return h('iframe', { title: 'Message', sandbox: 'allow-popups allow-popups-to-escape-sandbox', srcdoc: head + html });
}

/** The browser saves the file from a signed link, however large it is; the page holds none of it. */
async function download(message, file) {
  const { url } = await postgate.post(`/messages/${message.id}/links`, { attachment_id: file.id });
  h('a', { href: `${url}?download=true`, target: '_blank', rel: 'noopener' }).click();
}

// ---- changes: shown at once; if the gateway refuses one, the list is read again

async function change(patch, fields) {
  const id = view.open;
  if (fields) put({ id, ...fields });
  else messages.delete(id);
  drawList();
  await postgate.patch(`/messages/${id}`, patch).catch((error) => (toast(error.message), load()));
}

const put = ({ id, ...fields }) => messages.has(id) && messages.set(id, { ...messages.get(id), ...fields });
const setKeyword = (keyword, isSet) => {
  const others = (messages.get(view.open)?.keywords ?? []).filter((other) => other !== keyword);
  return change({ keywords: { [isSet ? 'add' : 'remove']: [keyword] } }, { keywords: isSet ? [...others, keyword] : others });
};
const toggle = (keyword) => messages.has(view.open) && setKeyword(keyword, !has(messages.get(view.open), keyword));
const star = () => toggle('$flagged');
const unread = () => toggle('$seen');
const moveTo = (mailbox_id) => (change({ mailbox_id }, view.q ? {} : null), close());
const close = () => ($('#reader').replaceChildren(), (view.open = null), drawList());
const step = (by) => {
  const ids = sorted().map((message) => message.id);
  const id = ids[view.open ? ids.indexOf(view.open) + by : 0];
  if (id) open(id);
};

function compose(order = {}, to = '', subject = '') {
  const [dialog, form] = [$('#composer'), $('#composer form')];
  const key = crypto.randomUUID(); // of this message: however often Send is pressed, it is sent once
  form.reset();
  form.to.value = to;
  form.subject.value = subject;
  dialog.onclose = async () => {
    if (dialog.returnValue !== 'send') return;
    const fields = { to: form.to.value.split(','), subject: form.subject.value, text: form.text.value };
    await postgate.post('/send', { ...order, ...fields }, key).then(() => toast('Sent.'),
      (error) => (toast(error.message), dialog.showModal()));
  };
  dialog.returnValue = '';
  dialog.showModal();
}
const reply = ({ id, from, subject }) =>
  compose({ mode: 'reply', reply_to_message_id: id }, from[0]?.address, `Re: ${subject.replace(/^re: */i, '')}`);

// ---- events

const isHere = (ids) => !view.q && ids.includes(view.mailbox);
const handlers = {
  'message.created': ({ message }) => isHere(message.mailbox_ids) && messages.set(message.id, message),
  'message.updated': ({ message_id: id, ...news }) => put({ id, ...news }),
  'message.deleted': ({ message_id: id }) => messages.delete(id),
  'message.moved': async ({ message_id: id, to }) => {
    if (isHere(to)) messages.set(id, await postgate.get(`/messages/${id}`));
    else if (!view.q) messages.delete(id);
  },
  'submission.failed': ({ recipients }) => toast(`Not sent to ${recipients.map((each) => each.address).join(', ')}`),
};
/** Whether this page made the change: it has shown it, and perhaps a later one since. */
const isEcho = ({ type, data }) => type === 'message.updated' && data.caused_by?.client_id === postgate.clientId;
const take = (event) => inOrder(async () => {
  if (isEcho(event)) return;
  await handlers[event.type]?.(event.data);
  if (event.type.startsWith('mailbox.')) await loadMailboxes();
  drawList();
});
/** A `counts` frame: all mailboxes after `subscribe`, then those that changed. */
const count = (counts) => {
  for (const { mailbox_id, ...numbers } of counts) {
    const mailbox = mailboxes.find((each) => each.id === mailbox_id);
    if (mailbox) Object.assign(mailbox, numbers);
  }
  drawMailboxes();
};
const reload = () => attempt(async () => (await loadMailboxes(), await load()));
const status = (name) => (($('#status').dataset.status = name), ($('#status').textContent = name));

const focusSearch = () => $('#search').q.focus();
const keys = { j: () => step(1), k: () => step(-1), s: star, u: unread, c: () => compose(), Escape: close, '/': focusSearch };
addEventListener('keydown', (event) => {
  if (event.target.matches('input, textarea, select') || event.ctrlKey || event.metaKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
$('#search').onsubmit = (event) => (event.preventDefault(), show(view.mailbox, event.target.q.value.trim()));
$('#compose').onclick = () => compose();
$('#more').onclick = () => attempt(() => load(view.next));

attempt(async () => {
  await loadMailboxes();
  const state = await load(); // the stream begins at the state of the list: nothing between the two is missed
  new Stream(postgate, state, { event: take, counts: count, gap: reload, status });
});
