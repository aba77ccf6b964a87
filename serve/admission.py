"""How much may wait: a bound on images and on bytes, tried and never waited for.

Enters: the size of a request. Leaves: a place, or Overloaded at once. Does not know: what is done with the place.
Used on the event loop alone, so it needs no lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from serve.errors import Overloaded


class Admission:
    """Counts the accepted images that have no answer yet, and their bytes."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        # The same words each time: under overload refusals are most of the work, and a status is made once per text.
        self._refusal = f"at most {max_images} images or {max_bytes} bytes may wait here, and they do; try again later"
        self.images = 0
        self.image_bytes = 0

    @contextmanager
    def admit(self, images: int, image_bytes: int) -> Iterator[None]:
        """Hold places for a request while it is worked on. Raises Overloaded where they are not free.

        A request larger than the bounds is taken when nothing else waits: it could never run otherwise.
        """
        if self.images and (
            self.images + images > self._max_images or self.image_bytes + image_bytes > self._max_bytes
        ):
            raise Overloaded(self._refusal)
        self.images += images
        self.image_bytes += image_bytes
        try:
            yield
        finally:
            self.images -= images
            self.image_bytes -= image_bytes
