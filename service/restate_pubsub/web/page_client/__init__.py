"""The core of the package for pages, `clients/javascript`, as one file that a page without a build imports.

It never knows what a topic holds: the file is the same for everybody.
"""
