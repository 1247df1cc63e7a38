"""The JSON API: HTTP in, use cases called, HTTP out. Translation only."""
