"""The node's durable memory: SQLite behind one writer with group commit. Nothing outside sees SQL."""
