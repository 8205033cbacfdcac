"""What runs between a client and a node's kubelet: SPDY frames, WebSocket channels, upgraded connections."""
