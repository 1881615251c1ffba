"""What can be asked of the origin: one table of operations, for scripts over HTTP and for the console's own pages."""
