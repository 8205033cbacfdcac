"""An OPC UA server for tests: `python opcua_server.py PORT`."""

import asyncio
import sys

from asyncua import Server, ua


async def main(port: int) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    space = await server.register_namespace("urn:test")
    boiler = await server.nodes.objects.add_object(space, "Boiler")
    await boiler.add_variable(ua.NodeId("Temperature", space), "Temperature", 71.5)
    level = await boiler.add_variable(ua.NodeId("Level", space), "Level", 3, ua.VariantType.Int16)
    await level.set_writable()
    await boiler.add_variable(ua.NodeId("Name", space), "Name", "north")
    async with server:
        await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1])))
