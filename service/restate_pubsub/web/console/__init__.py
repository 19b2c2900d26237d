"""The operators' page: its figures and its static files."""
