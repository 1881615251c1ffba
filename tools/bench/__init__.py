"""Benchmarks: our figures beside those of the tools that people would use instead, measured in one run."""
