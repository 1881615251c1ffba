"""What an edge gives to terminals and to other edges: proved bytes, the portal, a small API, its own state."""
