"""Fill on demand: what a terminal asks for and is not here is fetched, proved and kept while it is played."""
