"""Images: credentials, pulls one at a time or not, and sweeping out those that nobody uses; knows no workers."""
