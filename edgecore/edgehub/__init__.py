"""The node's one connection to cloudcore."""
