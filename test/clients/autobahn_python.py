#!/usr/bin/python3
"""python3-autobahn on asyncio under remote control; see wire.js for the protocol.

Only WebSocket: the asyncio RawSocket client of Debian's autobahn 22.7.1 fails by
itself (it has no transport_details). autobahn_twisted.py has RawSocket.
"""

import asyncio

from autobahn.asyncio.wamp import ApplicationSession
from autobahn.asyncio.websocket import WampWebSocketClientFactory
from autobahn.wamp import types
from urllib.parse import urlparse

import wire


class Client(wire.Client):
    async def connect(self, url, realm, codec, auth=None):
        loop = asyncio.get_running_loop()
        joined = loop.create_future()
        session_class = self.session_class(ApplicationSession, joined, auth)

        def make():
            self.session = session_class(types.ComponentConfig(realm=realm))
            return self.session

        factory = WampWebSocketClientFactory(make, url=url, serializers=[wire.SERIALIZERS[codec]()])
        factory.loop = loop
        u = urlparse(url)
        await loop.create_connection(factory, u.hostname, u.port)
        return await asyncio.wait_for(joined, 10)


asyncio.run(wire.serve(Client()))
