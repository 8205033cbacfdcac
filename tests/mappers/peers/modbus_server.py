"""A Modbus server for tests: `python modbus_server.py PORT`, of TCP or a serial device; registers of unit 1, 0 to 199.

On a serial line it says "listening" once it does.
"""

import asyncio
import sys

from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusSerialServer, StartAsyncTcpServer


async def main(port: str) -> None:
    def block(count: int, values: dict[int, int]) -> ModbusSequentialDataBlock:
        # The library counts its blocks from 1 where the protocol counts from 0.
        return ModbusSequentialDataBlock(1, [values.get(n, 0) for n in range(count)])

    device = ModbusDeviceContext(
        di=block(16, {3: 1}),
        co=block(16, {2: 1}),
        ir=block(200, {0: 215, 1: 65535, 10: 0x41AC, 11: 0x0000, 12: 0x4869, 13: 0x2100}),
        hr=block(200, {0: 42, 5: 0x00F0, 6: 1}),
    )
    context = ModbusServerContext(devices={1: device}, single=False)
    if port.isdigit():
        await StartAsyncTcpServer(context=context, address=("127.0.0.1", int(port)))
        return
    server = ModbusSerialServer(context, port=port, baudrate=19200)
    await server.serve_forever(background=True)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
