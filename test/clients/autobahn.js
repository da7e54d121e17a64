'use strict';
// autobahn-js under remote control; see wire.js.
// Node has a WebSocket of its own from version 22 on; autobahn-js asks for one.
global.WebSocket ||= require('ws');
global.XMLHttpRequest ||= require('./xhr.js'); // for long-poll
const autobahn = require('autobahn');
const nacl = require('tweetnacl');
const { serve, say } = require('./wire.js');

const serializers = {
  json: autobahn.serializer.JSONSerializer,
  msgpack: autobahn.serializer.MsgpackSerializer,
  cbor: autobahn.serializer.CBORSerializer,
};

let connection, session;

// credentials are the options with which autobahn-js authenticates.
function credentials(auth) {
  if (!auth) return {};
  const { method, authid, secret } = auth;
  const options = { authid, authmethods: [method] };
  if (method === 'cryptosign') {
    const pkey = nacl.sign.keyPair.fromSeed(Buffer.from(secret, 'hex'));
    options.authextra = { pubkey: autobahn.auth_cryptosign.public_key(pkey), channel_binding: null, challenge: null, trustroot: null };
    options.onchallenge = (_, __, extra) => autobahn.auth_cryptosign.sign_challenge(pkey, extra);
  } else if (method === 'wampcra') {
    const { derive_key, sign } = autobahn.auth_cra;
    options.onchallenge = (_, __, { salt, iterations, keylen, challenge }) =>
      sign(salt ? derive_key(secret, salt, iterations, keylen) : secret, challenge);
  } else {
    options.onchallenge = () => secret;
  }
  return options;
}

function failure(e) {
  // autobahn-js rejects with an autobahn.Error: {error, args, kwargs}.
  return Object.assign(new Error(e.error || String(e)), { error: e.error, args: e.args });
}

const event = (topic) => (args, kwargs, details) =>
  say({ event: 'event', topic: details.topic || topic, args: args || [], kwargs: kwargs || {} });

serve({
  connect: ({ url, realm, codec, auth }) =>
    new Promise((resolve, reject) => {
      const u = new URL(url);
      const transport =
        u.protocol === 'rs:'
          ? { type: 'rawsocket', host: u.hostname, port: Number(u.port) }
          : u.protocol === 'http:'
            ? { type: 'longpoll', url }
            : { type: 'websocket', url, serializers: [new serializers[codec]()] };
      connection = new autobahn.Connection({ realm, transports: [transport], max_retries: 0, ...credentials(auth) });
      connection.onopen = (s, details) => {
        session = s;
        resolve({ session: s.id, kwargs: { authid: details.authid, authrole: details.authrole, authmethod: details.authmethod } });
      };
      connection.onclose = (reason, details) => {
        say({ event: 'close', reason: details && details.reason });
        reject(new Error(`${reason} ${details && details.reason} ${details && details.message}`));
        return true; // do not retry
      };
      connection.open();
    }),
  call: ({ uri, args, kwargs, options }) =>
    session.call(uri, args, kwargs, options).then(
      (r) => (r instanceof autobahn.Result ? { args: r.args, kwargs: r.kwargs } : { args: [r], kwargs: {} }),
      (e) => Promise.reject(failure(e)),
      (r) => say({ event: 'progress', topic: uri, args: r instanceof autobahn.Result ? r.args : [r] }),
    ),
  cancel: ({ uri, mode }) => {
    const call = session.call(uri, [], { hang: true });
    call.cancel({ mode });
    return call.then(
      (r) => ({ args: [r] }),
      (e) => Promise.reject(failure(e)),
    );
  },
  subscribe: ({ uri, match, options }) =>
    session.subscribe(uri, event(uri), { match, ...options }).then(
      () => ({}),
      (e) => Promise.reject(failure(e)),
    ),
  register: ({ uri, options, answer }) =>
    session
      .register(uri, (args, kwargs, details) => {
        if (answer) return answer;
        if (kwargs && kwargs.hang) return new Promise(() => {});
        if (kwargs && kwargs.parts) for (let i = 0; i < kwargs.parts; i++) details.progress([i]);
        if (kwargs && kwargs.fail) throw new autobahn.Error('com.example.failed', ['as asked']);
        return new autobahn.Result(args, kwargs);
      }, options)
      .then(
        () => ({}),
        (e) => Promise.reject(failure(e)),
      ),
  publish: ({ uri, args, kwargs, options }) =>
    session.publish(uri, args, kwargs, { acknowledge: true, ...options }).then(
      () => ({}),
      (e) => Promise.reject(failure(e)),
    ),
  close: () => {
    connection.close();
    return {};
  },
});
