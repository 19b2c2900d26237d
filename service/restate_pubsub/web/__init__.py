"""The HTTP side: endpoints, what a request says, answers.

It knows Starlette and the hub; it never calls Restate itself.
"""
