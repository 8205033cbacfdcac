"""A Modbus TCP server for tests: `python modbus_server.py PORT`; registers of unit 1, 0 to 199."""

import asyncio
import sys

from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import StartAsyncTcpServer


async def main(port: int) -> None:
    def block(count: int, values: dict[int, int]) -> ModbusSequentialDataBlock:
        # The library counts its blocks from 1 where the protocol counts from 0.
        return ModbusSequentialDataBlock(1, [values.get(n, 0) for n in range(count)])

    device = ModbusDeviceContext(
        di=block(16, {3: 1}),
        co=block(16, {2: 1}),
        ir=block(200, {0: 215, 1: 65535, 10: 0x41AC, 11: 0x0000, 12: 0x4869, 13: 0x2100}),
        hr=block(200, {0: 42, 5: 0x00F0, 6: 1}),
    )
    await StartAsyncTcpServer(
        context=ModbusServerContext(devices={1: device}, single=False), address=("127.0.0.1", port)
    )


asyncio.run(main(int(sys.argv[1])))
