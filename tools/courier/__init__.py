"""The courier: packing a disk at the origin, proving it at an edge, and bringing its reports home."""
