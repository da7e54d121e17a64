"""A Modbus RTU unit, number 3, on the serial port given as the argument."""
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer
from pymodbus.transaction import ModbusRtuFramer

registers = [0] * 100
registers[0:2] = [0x42F6, 0xE979]  # 123.456
registers[20] = 215
unit = ModbusSlaveContext(
    di=ModbusSequentialDataBlock(0, [1] * 100), co=ModbusSequentialDataBlock(0, [0] * 100),
    hr=ModbusSequentialDataBlock(0, registers), ir=ModbusSequentialDataBlock(0, registers), zero_mode=True)
StartSerialServer(context=ModbusServerContext(slaves={3: unit}, single=False), framer=ModbusRtuFramer,
                  port=sys.argv[1], baudrate=19200, timeout=1)
