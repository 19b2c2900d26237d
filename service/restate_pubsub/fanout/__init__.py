"""Topics as this process reads them: a hub of feeds, their readers, and the log behind them.

It knows no web framework and no bytes of any protocol: who builds it hands in how a message is encoded. Only
`restate_source` knows Restate.
"""
