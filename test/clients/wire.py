"""The remote control that the Python programs here speak; see wire.js."""

import asyncio
import base64
import json
import sys

from autobahn.wamp import auth, serializer, types
from autobahn.wamp.exception import ApplicationError

SERIALIZERS = {
    "json": serializer.JsonSerializer,
    "msgpack": serializer.MsgPackSerializer,
    "cbor": serializer.CBORSerializer,
}


def pack(v):
    if isinstance(v, (bytes, bytearray)):
        return {"$bin": base64.b64encode(v).decode()}
    if isinstance(v, (list, tuple)):
        return [pack(x) for x in v]
    if isinstance(v, dict):
        return {k: pack(x) for k, x in v.items()}
    return v


def unpack(v):
    if isinstance(v, list):
        return [unpack(x) for x in v]
    if isinstance(v, dict):
        if isinstance(v.get("$bin"), str):
            return base64.b64decode(v["$bin"])
        return {k: unpack(x) for k, x in v.items()}
    return v


def say(**o):
    sys.stdout.write(json.dumps(pack(o)) + "\n")
    sys.stdout.flush()


def authenticator(method, authid, secret):
    """What autobahn authenticates with."""
    options = {
        "ticket": {"ticket": secret},
        "wampcra": {"authid": authid, "secret": secret},
        "cryptosign": {"authid": authid, "privkey": secret},
        "scram": {"authid": authid, "password": secret},
    }[method]
    return auth.create_authenticator(method, **options)


class Client:
    """What both frameworks have in common; they differ in how one connects."""

    def __init__(self):
        self.session = None

    def settle(self, future):
        """What the framework returns, as something to await."""
        return future

    def session_class(self, base, joined, auth=None):
        """An ApplicationSession of the framework that reports to joined, a future."""
        prover = authenticator(**auth) if auth else None

        class Session(base):
            def onConnect(self):
                if prover is None:
                    return super().onConnect()
                self.join(self.config.realm, authmethods=[auth["method"]], authid=auth["authid"], authextra=prover.authextra)

            def onChallenge(self, challenge):
                return prover.on_challenge(self, challenge)

            def onWelcome(self, welcome):
                return prover and prover.on_welcome(self, welcome.authextra)

            def onJoin(self, details):
                joined.set_result(
                    {
                        "session": details.session,
                        "kwargs": {
                            "authid": details.authid,
                            "authrole": details.authrole,
                            "authmethod": details.authmethod,
                        },
                    }
                )

            def onLeave(self, details):
                say(event="close", reason=details.reason)
                if not joined.done():
                    joined.set_exception(RuntimeError(f"{details.reason}: {details.message}"))
                self.disconnect()

        return Session

    async def call(self, uri, args=(), kwargs=None, options=None):
        kwargs = kwargs or {}
        options = dict(options or {})
        if options.pop("receive_progress", False):
            options["on_progress"] = lambda *args: say(event="progress", topic=uri, args=list(args))
        if options:
            kwargs = {**kwargs, "options": types.CallOptions(**options)}
        r = await self.settle(self.session.call(uri, *(args or ()), **kwargs))
        if isinstance(r, types.CallResult):
            return {"args": list(r.results), "kwargs": dict(r.kwresults or {})}
        return {"args": [r], "kwargs": {}}

    async def subscribe(self, uri, match=None, options=None):
        def handler(*args, details=None, **kwargs):
            say(event="event", topic=(details and details.topic) or uri, args=list(args), kwargs=kwargs)

        options = types.SubscribeOptions(match=match, details_arg="details", **(options or {}))
        await self.settle(self.session.subscribe(handler, uri, options))
        return {}

    async def register(self, uri, options=None, answer=None):
        def echo(*args, details=None, **kwargs):
            if answer:
                return answer
            if kwargs.get("hang"):
                return asyncio.get_running_loop().create_future()
            for i in range(kwargs.get("parts", 0)):
                details.progress(i)
            if kwargs.get("fail"):
                raise ApplicationError("com.example.failed", "as asked")
            return types.CallResult(*args, **kwargs)

        await self.settle(self.session.register(echo, uri, types.RegisterOptions(details_arg="details", **(options or {}))))
        return {}

    async def publish(self, uri, args=(), kwargs=None, options=None):
        kwargs = kwargs or {}
        await self.settle(self.session.publish(uri, *args, options=types.PublishOptions(acknowledge=True, **(options or {})), **kwargs))
        return {}

    async def close(self):
        self.session.leave()
        return {}


async def handle(client, cmd):
    number, op = cmd.pop("id"), cmd.pop("op")
    try:
        say(id=number, ok=True, **await getattr(client, op)(**unpack(cmd)))
    except ApplicationError as e:
        say(id=number, ok=False, error=e.error, args=[str(a) for a in e.args])
    except Exception as e:  # the Go test shows it
        say(id=number, ok=False, error=repr(e), args=[])


async def serve(client):
    """Runs client's methods for the lines of standard input, until its end."""
    tasks, loop = set(), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.ensure_future(handle(client, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
