"""Twins of the node's devices: from the store's Device objects to MQTT and back, durable and offline."""
