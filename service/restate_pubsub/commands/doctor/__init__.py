"""`restate-pubsub doctor`: what stands between the service and its readers, found by trying.

`trials` try one thing each and return findings; `remedies` has which line of which proxy's configuration mends a
fault; `site` is the public address as they use it. None of them imports the server: a doctor comes from outside.
"""
