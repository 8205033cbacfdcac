"""Runtime kit without a domain: errors, lifecycle, settings, back-off, logs, metrics, certificates."""

import os

# gRPC's core writes to standard error by itself, a line for each stranger whose handshake fails: no JSON where JSON was
# asked for, and a log that anybody can fill who reaches a port. What matters is in its exceptions. Read when gRPC
# is first imported, so it is set here, in the package that all daemons import before it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
