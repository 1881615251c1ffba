"""The province side: publish courseware, keep it, sign it, serve it."""
