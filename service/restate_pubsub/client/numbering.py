"""Names for the steps of one invocation: the same in every attempt, and never the same for two steps.

A counter per agent is not enough: agents call agents, and each would count from one. So the invocation counts, in the
order in which its handler asks, which a replay repeats. Ask before the step begins, not inside of it: a step that is
journaled does not run again, and would not be counted.
"""

from __future__ import annotations

from typing import Any

_COUNTED = "_restate_pubsub_steps"


def next_step(ctx: Any) -> str:
    """Return the name of this invocation's next step: `<invocation id>/<number>`, counted from 1.

    The number is kept with the handler's context, which each attempt gets anew.
    """
    number = getattr(ctx, _COUNTED, 0) + 1
    setattr(ctx, _COUNTED, number)
    return f"{ctx.request().id}/{number}"
