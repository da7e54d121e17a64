// A small WAMP v2 client for the page: JSON over WebSocket; calls, and
// subscriptions by exact topic or prefix. It reconnects by itself and puts its
// subscriptions back. Applications should use a full client such as
// autobahn-js; this one exists so that the page needs no dependency.

const HELLO = 1, WELCOME = 2, ABORT = 3, GOODBYE = 6, ERROR = 8,
  SUBSCRIBE = 32, SUBSCRIBED = 33, EVENT = 36, CALL = 48, RESULT = 50;

export class Session {
  // handlers: {up(), down(reason)}
  constructor(url, realm, handlers) {
    Object.assign(this, { url, realm, handlers });
    this.topics = []; // {topic, options, handler}
    this.delay = 500;
    this.connect();
  }

  connect() {
    this.reset();
    const ws = this.ws = new WebSocket(this.url, ['wamp.2.json']);
    ws.onopen = () => this.send([HELLO, this.realm, { roles: { caller: {}, subscriber: { features: { pattern_based_subscription: true } } } }]);
    ws.onmessage = (m) => this.receive(JSON.parse(m.data));
    ws.onclose = () => {
      for (const { reject } of this.pending.values()) reject(new Error('connection lost'));
      this.reset();
      this.handlers.down(this.reason || 'gateway not reachable');
      this.reason = null;
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 2, 10000);
    };
  }

  reset() {
    this.next = 1;
    this.pending = new Map(); // request -> {resolve, reject}
    this.subscriptions = new Map(); // subscription -> handler
  }

  send(message) {
    this.ws.send(JSON.stringify(message));
  }

  request(kind, ...rest) {
    return new Promise((resolve, reject) => {
      if (!this.ws || this.ws.readyState !== WebSocket.OPEN) {
        reject(new Error('not connected'));
        return;
      }
      this.pending.set(this.next, { resolve, reject });
      this.send([kind, this.next++, ...rest]);
    });
  }

  // call resolves with {args, kwargs}; a WAMP error rejects with its text.
  async call(procedure, args = [], kwargs = {}) {
    const [, , , a, k] = await this.request(CALL, {}, procedure, args, kwargs);
    return { args: a || [], kwargs: k || {} };
  }

  // subscribe calls handler(topic, args, kwargs), now and after reconnects.
  subscribe(topic, options, handler) {
    const entry = { topic, options, handler };
    this.topics.push(entry);
    return this.subscribeNow(entry);
  }

  async subscribeNow({ topic, options, handler }) {
    const [, , id] = await this.request(SUBSCRIBE, options, topic);
    this.subscriptions.set(id, (details, args, kwargs) => handler(details.topic || topic, args, kwargs));
  }

  async receive(m) {
    const settle = (request, how, value) => {
      const p = this.pending.get(request);
      this.pending.delete(request);
      if (p) p[how](value);
    };
    switch (m[0]) {
      case WELCOME:
        this.delay = 500;
        try {
          for (const t of this.topics) await this.subscribeNow(t);
          await this.handlers.up();
        } catch (e) {
          this.reason = e.message;
          this.ws.close();
        }
        break;
      case ABORT: case GOODBYE:
        this.reason = (m[1] && m[1].message) || m[2];
        this.ws.close();
        break;
      case ERROR:
        settle(m[2], 'reject', new Error([m[4], ...(m[5] || [])].join(': ')));
        break;
      case RESULT: case SUBSCRIBED:
        settle(m[1], 'resolve', m);
        break;
      case EVENT: {
        const handler = this.subscriptions.get(m[1]);
        if (handler) handler(m[3] || {}, m[4] || [], m[5] || {});
      }
    }
  }
}
