"""What a host reads beyond what is sent to it, as it was seen to: later reservations hold it too.

Some hosts put words of their own before every prompt, and some models read more of an image than is
held for one. How much, nobody says beforehand. A call is never charged more than was held for it,
so the first one is charged less than it cost, and every later one what it costs.

Each team learns for itself: an odd image of one makes nobody else's calls dearer to hold.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.types import HostedModel

IMAGE_TOKENS: Final = 5_000
"""Above what current models charge for one image, except gpt-4o-mini (up to 48,169)."""
LARGEST_IMAGE_TOKENS: Final = 50_000
"""Above what any model charges for one image."""
HOSTS_OWN_TOKENS: Final = 2_000
"""What a host may put before a prompt of its own accord: instructions, the date."""

MAX_KNOWN: Final = 10_000
"""Pairs of team and model that are remembered, those that were used last: 2 MB."""

_READS_LARGE_IMAGES: Final = re.compile(r"(^|/)gpt-4o-mini(-|$)")


@dataclass(slots=True)
class Surplus:
    """What one model reads in a prompt beyond its bound, at most."""

    own: int = 0
    per_image: int = 0
    of_files: int = 0

    def tokens(self, images: int, *, has_files: bool) -> int:
        """Sum it up for one prompt."""
        return self.own + images * self.per_image + (self.of_files if has_files else 0)

    def learn(self, tokens: int, images: int, *, has_files: bool) -> None:
        """Note that so many tokens were read beyond the bound, and put them down to a cause."""
        if has_files:
            self.of_files = max(self.of_files, tokens)
        elif images:
            self.per_image = max(self.per_image, -(-tokens // images))
        else:
            self.own = max(self.own, tokens)


class Surpluses:
    """What each model was seen to read beyond what each team sent it."""

    def __init__(self, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._seen: OrderedDict[tuple[str, str], Surplus] = OrderedDict()

    def of(self, model: HostedModel, team_id: str) -> Surplus:
        """Return what is known of `model` and the prompts of a team."""
        place = team_id, model.name
        known = self._seen.get(place)
        if known is None:
            reads_large = _READS_LARGE_IMAGES.search(model.upstream_name)
            per_image = LARGEST_IMAGE_TOKENS - IMAGE_TOKENS if reads_large else 0
            known = self._seen[place] = Surplus(per_image=per_image)
            if len(self._seen) > self._max_known:
                self._seen.popitem(last=False)
        self._seen.move_to_end(place)
        return known

    def most(
        self, models: Iterable[HostedModel], team_id: str, images: int, *, has_files: bool
    ) -> int:
        """Return the most that any of `models` may read beyond the bound of a team's prompt."""
        return max(self.of(model, team_id).tokens(images, has_files=has_files) for model in models)
