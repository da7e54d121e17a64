// wampy under remote control; see wire.js.
import WampyModule from 'wampy';
import * as json from 'wampy/JsonSerializer.js';
import * as msgpack from 'wampy/MsgpackSerializer.js';
import * as cbor from 'wampy/CborSerializer.js';
import * as cra from 'wampy/wampcra.js';
import * as cryptosign from 'wampy/cryptosign.js';
import nacl from 'tweetnacl';
import WebSocket from 'ws';
import wire from './wire.js';

const { serve, say } = wire;
const Wampy = WampyModule.Wampy || WampyModule.default || WampyModule;
const serializers = { json: json.JsonSerializer, msgpack: msgpack.MsgpackSerializer, cbor: cbor.CborSerializer };

let wampy;

function failure(e) {
  const error = (e && (e.errorUri || e.error)) || String(e);
  return Object.assign(new Error(error), { error, args: (e && e.argsList) || [] });
}

// credentials are the options with which wampy authenticates.
function credentials(auth) {
  if (!auth) return {};
  const { method, authid, secret } = auth;
  const options = { authid, authmethods: [method], onChallenge: () => secret };
  if (method === 'wampcra') options.onChallenge = cra.sign(secret);
  if (method === 'cryptosign') {
    const { publicKey } = nacl.sign.keyPair.fromSeed(Buffer.from(secret, 'hex'));
    options.authextra = { pubkey: Buffer.from(publicKey).toString('hex') };
    options.onChallenge = cryptosign.sign(secret);
  }
  return options;
}

const guard = (promise, answer = () => ({})) => promise.then(answer, (e) => Promise.reject(failure(e)));

serve({
  connect: ({ url, realm, codec, auth }) => {
    wampy = new Wampy(url, {
      realm,
      ws: WebSocket,
      serializer: new serializers[codec](),
      autoReconnect: false,
      ...credentials(auth),
      onClose: () => say({ event: 'close' }),
    });
    return guard(wampy.connect(), ({ authid, authrole, authmethod }) => ({
      session: wampy.getSessionId(),
      kwargs: { authid, authrole, authmethod },
    }));
  },
  call: ({ uri, args, kwargs }) =>
    guard(wampy.call(uri, { argsList: args, argsDict: kwargs }), (r) => ({
      args: r.argsList || [],
      kwargs: r.argsDict || {},
    })),
  subscribe: ({ uri, match }) =>
    guard(
      wampy.subscribe(
        uri,
        (e) =>
          say({
            event: 'event',
            topic: (e.details && e.details.topic) || uri,
            args: e.argsList || [],
            kwargs: e.argsDict || {},
          }),
        match && match !== 'exact' ? { match } : {},
      ),
    ),
  register: ({ uri }) =>
    guard(
      wampy.register(uri, ({ argsList, argsDict }) => {
        if (argsDict && argsDict.fail) {
          const e = new Error('as asked');
          throw Object.assign(e, { error: 'com.example.failed', argsList: ['as asked'] });
        }
        return { argsList, argsDict };
      }),
    ),
  publish: ({ uri, args, kwargs }) => guard(wampy.publish(uri, { argsList: args, argsDict: kwargs })),
  close: () => guard(wampy.disconnect()),
});
