"""What a client reads before it asks for objects, made of the kinds: discovery, OpenAPI; knows no HTTP and no object."""
