"""Asking containers: probes and lifecycle hooks, over HTTP, TCP, gRPC and commands in the container."""
