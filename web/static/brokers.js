// The MQTT brokers of the bridge, a card each: postern.bridge.status answers
// what they are, and an event says what has changed.

const rows = {
  out: (s) => `${rate(s.out_rate)} · ${s.out}`,
  in: (s) => `${rate(s.in_rate)} · ${s.in}`,
  waiting: (s) => (s.queued ? `${s.queued} · ${bytes(s.queued_bytes)} · ${age(s.oldest)}` : '0'),
  'on disk': (s) => (s.disk_bytes ? bytes(s.disk_bytes) : ''),
  dropped: (s) =>
    Object.entries(s.dropped)
      .filter(([reason]) => !['unchanged', 'echo', 'filtered', 'no_map'].includes(reason))
      .map(([reason, n]) => `${reason.replaceAll('_', ' ')} ${n}`)
      .join(', '),
};

const rate = (n) => `${Number(n.toPrecision(3))}/s`;

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let u = 0;
  for (; n >= 1024 && u < units.length - 1; u++) n /= 1024;
  return `${Number(n.toPrecision(3))} ${units[u]}`;
}

function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export class Brokers {
  constructor(place, card) {
    this.place = place;
    this.template = card;
    this.cards = new Map();
  }

  // fill asks for all brokers. A role that may not ask sees none.
  async fill(session) {
    this.cards.clear();
    this.place.replaceChildren();
    const list = await session.call('postern.bridge.status').then(({ args }) => args[0], () => []);
    for (const s of list) this.show(s);
  }

  event(topic, status) {
    if (topic.endsWith('.status') && status && status.broker) this.show(status);
  }

  show(s) {
    let root = this.cards.get(s.broker);
    if (!root) {
      root = this.template.cloneNode(true);
      root.querySelector('h2').textContent = s.broker;
      this.place.append(root);
      this.cards.set(s.broker, root);
    }
    root.querySelector('.type').textContent = ['MQTT broker', s.url].filter(Boolean).join(' · ');
    const badge = root.querySelector('.state');
    badge.textContent = s.state;
    badge.className = `state ${s.state}`;
    const why = root.querySelector('.reason');
    why.textContent = [s.error, s.disk_error && `queue in memory: ${s.disk_error}`].filter(Boolean).join('; ');
    why.hidden = !why.textContent;
    const dl = root.querySelector('dl');
    dl.replaceChildren();
    for (const [name, of] of Object.entries(rows)) {
      const text = of(s);
      if (!text) continue;
      const dt = document.createElement('dt');
      const dd = document.createElement('dd');
      dt.textContent = name;
      dd.textContent = text;
      dl.append(dt, dd);
    }
  }
}
