"""Settings of the bus and of the embedded broker that cannot work are refused by name."""

import pytest

from corekit.errors import ConfigError
from edgecore.eventbus.broker import EmbeddedBroker
from edgecore.eventbus.bus import EventBus
from edgecore.eventbus.link import BrokerAddress, parse_url
from edgecore.settings import BrokerSettings


def test_a_url_may_name_user_and_password():
    assert parse_url("mqtt://me:p%40ss@broker:1884") == BrokerAddress("broker", 1884, "me", "p@ss")
    assert parse_url("mqtt://broker") == BrokerAddress("broker", 1883)


@pytest.mark.parametrize(
    "url", ["", "broker:1883", "http://broker", "mqtt://", "mqtt://b:99999", "mqtt://b/path"]
)
async def test_a_url_that_is_none_names_its_key(url):
    with pytest.raises(ConfigError, match=r"broker\.url"):
        EventBus(BrokerSettings(url=url), "edge-1")


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1883", "example.com:1883", "[::]:1883", "1883", "x:0"]
)
def test_the_embedded_broker_listens_on_loopback_only(address):
    with pytest.raises(ConfigError, match=r"broker\.embedded_address"):
        EmbeddedBroker(BrokerSettings(embedded_address=address))
