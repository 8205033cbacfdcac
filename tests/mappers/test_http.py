"""The HTTP driver against a web server in another process."""

import pytest

from mappers.drivers.http import HttpDriver
from mappers.sdk import DeviceUnreachableError, PointFault, WriteRefusedError
from tests.mappers.driving import driving, read_all

pytestmark = pytest.mark.timeout(60)

RELAY = {
    "path": "/status",
    "value": "relay.on",
    "writePath": "/relay",
    "writeBody": '{"on": {json}}',
}


async def test_points_of_one_path_share_a_request(http_port):
    points = {
        "relay": ("BOOLEAN", RELAY),
        "celsius": ("DOUBLE", {"path": "/status", "value": "sensors[0].t", "offset": 1}),
        "requests": ("INT", {"path": "/status", "value": "requests"}),
        "lost": ("INT", {"path": "/nowhere", "value": "x"}),
        "hole": ("INT", {"path": "/status", "value": "sensors[4].t"}),
    }
    async with driving(HttpDriver, {"url": f"http://127.0.0.1:{http_port}"}, points) as driver:
        first, second = await read_all(driver), await read_all(driver)
        assert (first["relay"], first["celsius"]) == (False, 22.25)
        assert second["requests"] - first["requests"] == 2  # /status and /nowhere
        assert first["lost"] == PointFault("/nowhere: HTTP 404")
        assert isinstance(first["hole"], PointFault)


async def test_an_answer_that_comes_in_pieces_is_taken_whole(http_port):
    points = {"t": ("INT", {"path": "/pieces", "value": "t"})}
    async with driving(HttpDriver, {"url": f"http://127.0.0.1:{http_port}"}, points) as driver:
        assert await read_all(driver) == {"t": 5}


async def test_a_write_follows_its_template_and_a_refusal_is_said(http_port):
    async with driving(
        HttpDriver, {"url": f"http://127.0.0.1:{http_port}"}, {"relay": ("BOOLEAN", RELAY)}
    ) as driver:
        await driver.write(driver.points["relay"], True)
        assert (await read_all(driver))["relay"] is True
        with pytest.raises(WriteRefusedError, match="HTTP 409 the relay does not do that"):
            await driver.write(driver.points["relay"], "maybe")


async def test_nobody_there_is_unreachable():
    points = {"a": ("INT", {"path": "/"})}
    async with driving(HttpDriver, {"url": "http://127.0.0.1:1"}, points) as driver:
        with pytest.raises(DeviceUnreachableError):
            await read_all(driver)
