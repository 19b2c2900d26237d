"""Who may do what, and how much of it: access tokens and their keys, limits for each client.

It never learns which topics exist.
"""
