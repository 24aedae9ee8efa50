"""The browser page: its server and its files."""
