// The page: every device as a card with its live readings. It speaks WAMP with
// the gateway as any other client would. Everything that comes from there is
// written with textContent, never as HTML.
import { Session } from './wamp.js';
import { Brokers } from './brokers.js';

const $ = (id) => document.getElementById(id);
const cards = new Map(); // URI of the device -> {root, rows: Map(reading -> elements)}
let session, settings, brokers, found;

function link(text, cls) {
  $('link').textContent = text;
  $('link').className = `link ${cls}`;
  document.body.classList.toggle('offline', cls !== 'up');
}

function notice(text) {
  $('notice').textContent = text;
  $('notice').hidden = !text;
}

function show(value) {
  if (value === null || value === undefined) return '–';
  if (value === true) return 'on';
  if (value === false) return 'off';
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

// The units are UCUM's; people know a few of them by another sign.
const signs = { Cel: '°C', 'Ohm': 'Ω', '1': '' };
const sign = (unit) => (unit in signs ? signs[unit] : unit);

// card finds or makes the card of a device, which is known by its URI.
function card(device) {
  let c = cards.get(device);
  if (c) return c;
  const root = $('card').content.firstElementChild.cloneNode(true);
  root.querySelector('h2').textContent = device.slice(device.lastIndexOf('.') + 1);
  // Cards stay in the order of their names, however they arrive.
  const place = own(device) ? 'devices' : 'found';
  const after = [...cards.keys()].filter((d) => d > device && own(d) === own(device)).sort()[0];
  $(place).insertBefore(root, after ? cards.get(after).root : null);
  c = { root, rows: new Map() };
  cards.set(device, c);
  return c;
}

// own tells the gateway's devices from those that were found by discovery.
const own = (device) => device.startsWith(`${settings.prefix}.`);

function reading(device, name, { value, unit, quality, reason }) {
  const c = card(device);
  let row = c.rows.get(name);
  if (!row) {
    row = { dt: document.createElement('dt'), dd: document.createElement('dd'), unit: '' };
    row.dt.textContent = name;
    c.root.querySelector('dl').append(row.dt, row.dd);
    c.rows.set(name, row);
  }
  if (unit) row.unit = sign(unit);
  const small = document.createElement('small');
  small.textContent = row.unit ? ` ${row.unit}` : '';
  row.dd.replaceChildren(show(value), small);
  row.dd.classList.toggle('bad', Boolean(quality) && quality !== 'good');
  row.dd.title = reason || '';
}

function status(device, { state, reason, alarms }) {
  const c = card(device);
  const badge = c.root.querySelector('.state');
  badge.textContent = state;
  badge.className = `state ${state}`;
  const why = c.root.querySelector('.reason');
  why.textContent = reason || '';
  why.hidden = !reason || state === 'ready';
  if (!alarms) return; // as in what list returns
  const list = c.root.querySelector('.alarms');
  list.replaceChildren(
    ...alarms.map((a) => {
      const li = document.createElement('li');
      li.textContent = `${a.reading} ${a.alarm}: ${show(a.value)} is ${a.side} ${show(a.limit)} ${sign(a.unit)}`;
      return li;
    }),
  );
  list.hidden = alarms.length === 0;
}

// Procedures that need no argument, or just a boolean, get buttons.
function verbs(device, procedures) {
  const buttons = [];
  const add = (label, verb, args) => {
    const b = document.createElement('button');
    b.type = 'button';
    b.textContent = label;
    b.onclick = () =>
      session.call(`${device}.${verb}`, args).then(
        () => notice(''),
        (e) => notice(`${device}: ${e.message}`),
      );
    buttons.push(b);
  };
  for (const p of procedures) {
    const needed = (p.args || []).filter((a) => !a.optional);
    if (needed.length === 0) add(p.name, p.name, []);
    else if (needed.length === 1 && needed[0].type === 'bool') {
      add('on', p.name, [true]);
      add('off', p.name, [false]);
    }
  }
  card(device).root.querySelector('.verbs').replaceChildren(...buttons);
}

// list fills in the devices below a prefix, and says how many there are.
async function list(prefix) {
  const { args: [all] } = await session.call(`${prefix}.list`);
  for (const d of all) {
    const uri = `${prefix}.${d.name}`;
    card(uri).root.querySelector('.type').textContent = d.summary || d.type;
    status(uri, d);
    for (const r of d.readings || []) reading(uri, r.name, r);
    verbs(uri, d.procedures || []);
  }
  return all.length;
}

async function fill() {
  cards.clear();
  $('devices').replaceChildren();
  $('found').replaceChildren();
  const n = await list(settings.prefix);
  notice(n ? '' : 'No devices yet: name some in the configuration file, then restart.');
  // Those that brokers' discovery has found; a role that may not ask sees none.
  const prefixes = await session.call('postern.bridge.found').then(({ args }) => args[0], () => []);
  for (const prefix of prefixes) {
    await list(prefix).catch(() => {});
    if (found.has(prefix)) continue;
    const topic = { topic: `${prefix}.`, options: { match: 'prefix' }, handler: (...e) => event(prefix, ...e) };
    await session.subscribeNow(topic).then(() => {
      found.add(prefix);
      session.topics.push(topic);
    }, () => {});
  }
}

function event(prefix, topic, args, kwargs) {
  const [name, what, ...more] = topic.slice(prefix.length + 1).split('.');
  if (!what || more.length) return;
  const device = `${prefix}.${name}`;
  if (what === 'status' && !own(device)) seen(prefix, device, args);
  if (!cards.has(device)) return;
  if (what === 'status') status(device, kwargs);
  else reading(device, what, { value: args[0], ...kwargs });
}

// seen asks for a device that was found just now, and forgets one that is gone.
function seen(prefix, device, args) {
  if (!args.length) {
    cards.get(device)?.root.remove();
    cards.delete(device);
  } else if (!cards.has(device)) {
    clearTimeout(seen.later);
    seen.later = setTimeout(() => list(prefix).catch(() => {}), 500);
  }
}

async function main() {
  const answer = await fetch('postern.json');
  if (!answer.ok) throw new Error(`postern.json: HTTP ${answer.status}`);
  settings = await answer.json();
  $('about').textContent = `Postern ${settings.version} · realm ${settings.realm} · WAMP at ${new URL('ws', location).href.replace(/^http/, 'ws')}`;
  session = new Session(new URL('ws', location).href.replace(/^http/, 'ws'), settings.realm, {
    up: async () => {
      await fill();
      await brokers.fill(session);
      link('live', 'up');
    },
    down: (reason) => link(`offline: ${reason}`, 'down'),
  });
  found = new Set();
  brokers = new Brokers($('brokers'), $('card').content.firstElementChild);
  session.topics.push({ topic: 'postern.bridge.', options: { match: 'prefix' }, handler: (topic, args, kwargs) => brokers.event(topic, kwargs) });
  session.topics.push({ topic: `${settings.prefix}.`, options: { match: 'prefix' }, handler: (...e) => event(settings.prefix, ...e) });
}

main().catch((e) => {
  link('offline', 'down');
  notice(e.message);
});
