"""The control loops, which see the API as any client does; they know no HTTP and no user."""
