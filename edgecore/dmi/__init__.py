"""The device management interface: mappers register here, report here, and are told of their devices."""
