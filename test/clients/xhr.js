'use strict';
// As much of a browser's XMLHttpRequest as autobahn-js's long-poll uses, which
// Node has not: over fetch.
class XMLHttpRequest {
  open(method, url) {
    Object.assign(this, { method, url, headers: {}, readyState: 1, status: 0, statusText: '', responseText: '', timeout: 0 });
  }
  setRequestHeader(name, value) {
    this.headers[name] = value;
  }
  async send(body) {
    const signal = this.timeout ? AbortSignal.timeout(this.timeout) : undefined;
    try {
      const r = await fetch(this.url, { method: this.method, headers: this.headers, body: body || undefined, signal });
      this.responseText = await r.text();
      Object.assign(this, { status: r.status, statusText: r.statusText });
    } catch (e) {
      if (e.name === 'TimeoutError' && this.ontimeout) return this.ontimeout();
    }
    this.readyState = 4;
    this.onreadystatechange?.();
  }
}
module.exports = XMLHttpRequest;
