"""MQTT at the edge: the connection to the broker, the topics and payloads of devices, the embedded broker."""
