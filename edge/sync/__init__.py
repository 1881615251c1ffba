"""Sync: follow the province: verify what it signed, plan what is wanted here, fetch it, install it."""
