"""Pods on this node: a worker per pod, a pure state machine, volumes, status, events, and the runtimes."""
