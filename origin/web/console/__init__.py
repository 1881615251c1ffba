"""The console: pages for people, made on the server, over the same operations that the API offers to scripts."""
