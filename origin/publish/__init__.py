"""From a file that a person hands in to a signed release."""
