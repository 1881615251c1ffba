"""The county's side: fetch what changed, prove it, keep it, serve it."""
