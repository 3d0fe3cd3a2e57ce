"""The two ways in which published programs on Qwen2-VL number tokens."""

from __future__ import annotations

from typing import Literal

Positions = Literal["later", "first"]
"""`later`: 0, 1, 2, … for every token, what ABC's program does on all but the first call of a process and
what it was trained with. `first`: Qwen2-VL's own two-dimensional positions inside the picture, what that
first call does."""
POSITION_MODES: tuple[Positions, ...] = ("later", "first")
