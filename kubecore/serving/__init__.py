"""The API over HTTPS: requests in, answers out; the rules themselves are below."""
