"""How much of everything a server does at a time; what is beyond is refused at once rather than kept waiting."""

from collections.abc import Iterator
from contextlib import contextmanager

from sa2sr.serving.refusals import busy


class Capacity:
    """A number of places, such as those of a queue.

    Attributes:
        taken: how many are taken
    """

    def __init__(self, places: int, what: str) -> None:
        self.places, self.what, self.taken = places, what, 0

    def take(self, count: int = 1) -> None:
        """Take places.

        Raises:
            RefusalError: 503, if there are not so many
        """
        if self.taken + count > self.places:
            raise busy(f"the server has no room for more {self.what}")
        self.taken += count

    def give_back(self, count: int = 1) -> None:
        """Give places back."""
        self.taken -= count

    @contextmanager
    def held(self, count: int = 1) -> Iterator[None]:
        """Take places for the duration of a block."""
        self.take(count)
        try:
            yield
        finally:
            self.give_back(count)
