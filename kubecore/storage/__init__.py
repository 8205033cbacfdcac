"""All current objects, durable in one SQLite file; knows bytes and keys, no kinds and no rules."""
