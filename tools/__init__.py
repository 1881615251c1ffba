"""What people and machines run: the command line, logs, doctor, demo, samples, benchmarks. Knows both sides."""
