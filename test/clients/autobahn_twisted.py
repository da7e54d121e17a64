#!/usr/bin/python3
"""python3-autobahn on Twisted, over RawSocket, under remote control; see wire.js."""

import asyncio
from urllib.parse import urlparse

from twisted.internet import asyncioreactor

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import types
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint

import wire


class Client(wire.Client):
    def settle(self, future):
        return future.asFuture(loop) if isinstance(future, Deferred) else future

    async def connect(self, url, realm, codec, auth=None):
        joined = loop.create_future()
        session_class = self.session_class(ApplicationSession, joined, auth)

        def make():
            self.session = session_class(types.ComponentConfig(realm=realm))
            return self.session

        u = urlparse(url)
        if u.scheme == "unix":
            endpoint = UNIXClientEndpoint(reactor, u.path)
        else:
            endpoint = TCP4ClientEndpoint(reactor, u.hostname, u.port)
        factory = WampRawSocketClientFactory(make, serializer=wire.SERIALIZERS[codec]())
        await self.settle(endpoint.connect(factory))
        return await asyncio.wait_for(joined, 10)


async def main():
    await wire.serve(Client())
    reactor.stop()


reactor.callWhenRunning(lambda: asyncio.ensure_future(main()))
reactor.run()
