"""What a trial has found, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "note", "FAULT"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line, and what mends it."""

    level: Level
    subject: str
    text: str
    mend: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return it as it is printed."""
        mend = (f"{'':<22}-> {line}" for line in self.mend)
        return "\n".join([f"{self.level:<6}{self.subject:<16}{self.text}", *mend])
