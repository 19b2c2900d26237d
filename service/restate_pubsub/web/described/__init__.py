"""What the HTTP side is, for programs: OpenAPI for its routes, AsyncAPI for the events of its streams.

It is made of the constants that the routes themselves use. It never decides anything about a request, and nothing but
the composition root imports it.
"""
