"""What the compact network is shown of a thing that is looked at by itself.

The pass over a whole photo shows it a thing in the size that it happens to have; its weights were fitted on
photos that one thing fills. A close-up brings the thing, with a little of what is around it, to that size.
Every constant here was compared with others on two folders of photos: docs/rerank.md.
"""

from __future__ import annotations

import math

from regionsearch.images import Image
from regionsearch.regions import Box

LONGEST_SIDE = 224
"""Of the network's input, pixels; 288 found no more at 1.6 times the cost."""
MARGIN = 0.125
"""Shown on each side of a box, share of the box's side."""
MAX_ELONGATION = 2.0
"""Longer over shorter side of what is shown: a strip without what is beside it says little."""
DOUBT = 2.0
"""What logits are divided by before they become probabilities. Close-ups of parts and of stuff look like one
class or another with more certainty than they deserve."""


def close_up(image: Image, box: Box) -> Image:
    """The part of the image that is shown of a box. Raises InvalidRegion for a box outside the image."""
    box = box.clip(image.height, image.width)
    width, height = ((box.x1 - box.x0) * (1 + 2 * MARGIN), (box.y1 - box.y0) * (1 + 2 * MARGIN))
    width, height = max(width, height / MAX_ELONGATION), max(height, width / MAX_ELONGATION)
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    # Where the image ends, so does what is shown: nothing is padded.
    x0, x1 = max(0, math.floor(x - width / 2)), min(image.width, math.ceil(x + width / 2))
    y0, y1 = max(0, math.floor(y - height / 2)), min(image.height, math.ceil(y + height / 2))
    return Image(image.pixels[y0:y1, x0:x1])
