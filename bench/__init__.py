"""The project's own load benchmark: `make bench`."""
