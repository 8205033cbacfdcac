"""`armadillo up`: a cloud, edge nodes and a leaf device on one machine, as supervised processes."""
