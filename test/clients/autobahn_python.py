#!/usr/bin/python3
"""python3-autobahn (asyncio) under remote control; see wire.js for the protocol."""

import asyncio
import base64
import json
import os
import sys
from urllib.parse import urlparse

# The C accelerator and the Rust one are not what is tested here.
os.environ.setdefault("AUTOBAHN_USE_NVX", "0")

from autobahn.asyncio.rawsocket import WampRawSocketClientFactory
from autobahn.asyncio.wamp import ApplicationSession
from autobahn.asyncio.websocket import WampWebSocketClientFactory
from autobahn.wamp import serializer, types
from autobahn.wamp.exception import ApplicationError

SERIALIZERS = {
    "json": serializer.JsonSerializer,
    "msgpack": getattr(serializer, "MsgPackSerializer", None),
    "cbor": getattr(serializer, "CBORSerializer", None),
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


class Client:
    def __init__(self):
        self.session = None

    async def connect(self, url, realm, codec):
        joined = asyncio.get_running_loop().create_future()

        class Session(ApplicationSession):
            def onJoin(self, details):
                joined.set_result(details.session)

            def onLeave(self, details):
                say(event="close", reason=details.reason)
                if not joined.done():
                    joined.set_exception(RuntimeError(f"{details.reason}: {details.message}"))
                self.disconnect()

        def make():
            self.session = Session(types.ComponentConfig(realm=realm))
            return self.session

        make_serializer = SERIALIZERS[codec]
        if make_serializer is None:
            raise RuntimeError(f"this autobahn has no serializer for {codec}")
        u = urlparse(url)
        loop = asyncio.get_running_loop()
        if u.scheme == "ws":
            factory = WampWebSocketClientFactory(make, url=url, serializers=[make_serializer()])
            factory.loop = loop
            factory.setProtocolOptions(openHandshakeTimeout=10)
            await loop.create_connection(factory, u.hostname, u.port)
        else:
            factory = WampRawSocketClientFactory(make, serializer=make_serializer())
            factory.loop = loop
            if u.scheme == "unix":
                await loop.create_unix_connection(factory, u.path)
            else:
                await loop.create_connection(factory, u.hostname, u.port)
        return {"session": await asyncio.wait_for(joined, 10)}

    async def call(self, uri, args=(), kwargs=None):
        kwargs = kwargs or {}
        r = await self.session.call(uri, *args, **kwargs)
        if isinstance(r, types.CallResult):
            return {"args": list(r.results), "kwargs": dict(r.kwresults or {})}
        return {"args": [r], "kwargs": {}}

    async def subscribe(self, uri, match=None):
        def handler(*args, details=None, **kwargs):
            say(event="event", topic=(details and details.topic) or uri, args=list(args), kwargs=kwargs)

        await self.session.subscribe(handler, uri, types.SubscribeOptions(match=match, details_arg="details"))
        return {}

    async def register(self, uri):
        def echo(*args, **kwargs):
            if kwargs.get("fail"):
                raise ApplicationError("com.example.failed", "as asked")
            return types.CallResult(*args, **kwargs)

        await self.session.register(echo, uri)
        return {}

    async def publish(self, uri, args=(), kwargs=None):
        kwargs = kwargs or {}
        await self.session.publish(uri, *args, options=types.PublishOptions(acknowledge=True), **kwargs)
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


async def main():
    client, tasks = Client(), set()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(handle(client, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
