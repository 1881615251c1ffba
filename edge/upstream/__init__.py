"""Upstreams: where bytes come from. Nothing that arrives here is trusted for who sent it."""
