'use strict';
// The remote control that every client program here speaks with the Go test:
// one JSON object a line. The test writes {id, op, ...} to standard input; the
// program answers {id, ok: true, ...} or {id, ok: false, error, args} on
// standard output, and reports what its subscriptions and registrations
// receive as {event: ...}. Bytes travel as {"$bin": base64}, because JSON has
// no other way to say what they are.

const readline = require('node:readline');

// Over WAMP's JSON serialization bytes are a string of NUL and base64. Neither
// autobahn-js nor wampy does that by itself, so their applications must.
let text = false;

function pack(v) {
  if (text && typeof v === 'string' && v.startsWith('\0')) return { $bin: v.slice(1) };
  if (v instanceof Uint8Array) return { $bin: Buffer.from(v).toString('base64') };
  if (v instanceof ArrayBuffer) return { $bin: Buffer.from(v).toString('base64') };
  if (typeof v === 'bigint') return Number(v);
  if (Array.isArray(v)) return v.map(pack);
  if (v && typeof v === 'object') {
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, pack(x)]));
  }
  return v;
}

function unpack(v) {
  if (Array.isArray(v)) return v.map(unpack);
  if (v && typeof v === 'object') {
    if (typeof v.$bin === 'string') return text ? '\0' + v.$bin : Buffer.from(v.$bin, 'base64');
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, unpack(x)]));
  }
  return v;
}

function say(o) {
  process.stdout.write(JSON.stringify(pack(o)) + '\n');
}

// serve runs ops, a table of async functions, for every line of standard input.
function serve(ops) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    const cmd = JSON.parse(line);
    if (cmd.op === 'connect') text = cmd.codec === 'json';
    try {
      const answer = await ops[cmd.op](unpack(cmd));
      say({ id: cmd.id, ok: true, ...answer });
    } catch (e) {
      say({ id: cmd.id, ok: false, error: e.error || String((e && e.stack) || e), args: e.args || [] });
    }
  });
  lines.on('close', () => process.exit(0));
}

module.exports = { serve, say };
