// The page: every device as a card with its live readings. It speaks WAMP with
// the gateway as any other client would. Everything that comes from there is
// written with textContent, never as HTML.
import { Session } from './wamp.js';
import { Brokers } from './brokers.js';

const $ = (id) => document.getElementById(id);
const cards = new Map(); // device -> {root, readings: Map(reading -> {value, unit}), state, reason}
let session, settings, brokers;

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

// card finds or makes a device's card.
function card(device) {
  let c = cards.get(device);
  if (c) return c;
  const root = $('card').content.firstElementChild.cloneNode(true);
  root.querySelector('h2').textContent = device;
  // Cards stay in the order of their names, however they arrive.
  const after = [...cards.keys()].filter((d) => d > device).sort()[0];
  $('devices').insertBefore(root, after ? cards.get(after).root : null);
  c = { root, rows: new Map() };
  cards.set(device, c);
  return c;
}

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
      session.call(`${settings.prefix}.${device}.${verb}`, args).then(
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

async function fill() {
  const { args: [list] } = await session.call(`${settings.prefix}.list`);
  cards.clear();
  $('devices').replaceChildren();
  for (const d of list) {
    card(d.name).root.querySelector('.type').textContent = d.summary || d.type;
    status(d.name, d);
    for (const r of d.readings || []) reading(d.name, r.name, r);
    verbs(d.name, d.procedures || []);
  }
  notice(list.length ? '' : 'No devices yet: name some in the configuration file, then restart.');
}

function event(topic, args, kwargs) {
  const [device, name, ...more] = topic.slice(settings.prefix.length + 1).split('.');
  if (!name || more.length || !cards.has(device)) return;
  if (name === 'status') status(device, kwargs);
  else reading(device, name, { value: args[0], ...kwargs });
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
  brokers = new Brokers($('brokers'), $('card').content.firstElementChild);
  session.topics.push({ topic: 'postern.bridge.', options: { match: 'prefix' }, handler: (topic, args, kwargs) => brokers.event(topic, kwargs) });
  session.topics.push({ topic: `${settings.prefix}.`, options: { match: 'prefix' }, handler: event });
}

main().catch((e) => {
  link('offline', 'down');
  notice(e.message);
});
