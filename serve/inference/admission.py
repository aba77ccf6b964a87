"""How much may wait: a bound on images and on bytes, tried and never waited for.

Enters: the size of a request. Leaves: a place for it, or Overloaded at once. Does not know: what the request is for.
Used on the event loop alone, so it needs no lock.
"""

from serve.errors import Overloaded


class Admission:
    """Counts the accepted images that have no answer yet, and the bytes of their files."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        # The same words each time: under overload refusals are most of the work, and each text is packed once.
        self._refusal = f"at most {max_images} images or {max_bytes} bytes may wait here, and they do; try again later"
        self.images = 0
        self.image_bytes = 0

    def admit(self, images: int, image_bytes: int) -> "_Place":
        """A context that holds places for a request. Raises Overloaded if they are not free.

        A request larger than the bounds is admitted when nothing else waits: it could never run otherwise.
        """
        if self.images and (
            self.images + images > self._max_images or self.image_bytes + image_bytes > self._max_bytes
        ):
            raise Overloaded(self._refusal)
        return _Place(self, images, image_bytes)


class _Place:
    """Counted from `with` to the end of its block. A class, for a generator would cost every call more."""

    __slots__ = ("_admission", "_image_bytes", "_images")

    def __init__(self, admission: Admission, images: int, image_bytes: int) -> None:
        self._admission, self._images, self._image_bytes = admission, images, image_bytes

    def __enter__(self) -> None:
        self._admission.images += self._images
        self._admission.image_bytes += self._image_bytes

    def __exit__(self, *_: object) -> None:
        self._admission.images -= self._images
        self._admission.image_bytes -= self._image_bytes
