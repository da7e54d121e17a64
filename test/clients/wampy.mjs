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
  call: ({ uri, args, kwargs, options: { receive_progress, ...options } = {} }) => {
    if (receive_progress) options.progress_callback = (r) => say({ event: 'progress', topic: uri, args: r.argsList });
    return guard(wampy.call(uri, { argsList: args, argsDict: kwargs }, options), (r) => ({
      args: r.argsList || [],
      kwargs: r.argsDict || {},
    }));
  },
  cancel: ({ uri, mode }) => {
    const call = guard(wampy.call(uri, { argsDict: { hang: true } }));
    wampy.cancel(wampy.getOpStatus().reqId, { mode });
    return call;
  },
  subscribe: ({ uri, match, options }) =>
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
        { ...(match && match !== 'exact' ? { match } : {}), ...options },
      ),
    ),
  register: ({ uri, options, answer }) =>
    guard(
      wampy.register(uri, ({ argsList, argsDict, details, result_handler }) => {
        if (answer) return { argsList: [answer] };
        if (argsDict && argsDict.hang) return new Promise(() => {});
        if (argsDict && argsDict.parts) {
          for (let i = 0; i < argsDict.parts; i++) result_handler({ argsList: [i], options: { progress: true } });
        }
        if (argsDict && argsDict.fail) {
          const e = new Error('as asked');
          throw Object.assign(e, { error: 'com.example.failed', argsList: ['as asked'] });
        }
        // What came packed goes back packed.
        const { ppt_scheme, ppt_serializer } = details || {};
        return { argsList, argsDict, options: ppt_scheme ? { ppt_scheme, ppt_serializer } : {} };
      }, options),
    ),
  publish: ({ uri, args, kwargs, options }) => guard(wampy.publish(uri, { argsList: args, argsDict: kwargs }, options || {})),
  close: () => guard(wampy.disconnect()),
});
