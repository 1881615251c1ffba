"""What the origin answers over HTTP."""
