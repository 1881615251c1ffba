"""Where blobs are kept: one small protocol, local disk behind it."""
