"""Topics as this process reads them: hub, feeds, readers, and the source behind them.

It knows no web framework; only `restate_source` knows Restate.
"""
