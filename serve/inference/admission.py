"""How much may wait: a bound on images and on bytes. A call is refused past it; a request of a stream waits its turn.

Enters: the size of a request. Leaves: a place for it, or Overloaded at once. Does not know: what the request is for.
Used on the event loop alone, so its counts need no lock.
"""

import asyncio
import time

from serve.errors import Expired, Overloaded


class Admission:
    """Counts the accepted images that have no answer yet, and the bytes of their files."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        # The same words each time: under overload refusals are most of the work, and each text is packed once.
        self._refusal = f"at most {max_images} images or {max_bytes} bytes may wait here, and they do; try again later"
        self.images = 0
        self.image_bytes = 0
        self._waiting = 0
        """Requests that wait for room."""
        self._turn = asyncio.Lock()  # of the first that waits for room; it lets the others in by the order they came in
        self._freed = asyncio.Event()

    def admit(self, images: int, image_bytes: int) -> "_Place":
        """A context that holds places for a request. Raises Overloaded if they are not free.

        A request larger than the bounds is admitted when nothing else waits: it could never run otherwise.
        """
        if self.images and (
            self.images + images > self._max_images or self.image_bytes + image_bytes > self._max_bytes
        ):
            raise Overloaded(self._refusal)
        return _Place(self, images, image_bytes)

    async def admit_in_turn(self, images: int, image_bytes: int, deadline_s: float | None) -> "_Place":
        """As `admit`, but wait for room, in the order of arrival. Raises Expired once `deadline_s` has passed.

        Hold the places at once: they are not counted before. `deadline_s` is on the clock of `time.monotonic`.
        """
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(left_s), self._turn:
                while True:
                    try:
                        return self.admit(images, image_bytes)
                    except Overloaded:
                        self._freed.clear()
                        await self._freed.wait()
        except TimeoutError:
            raise Expired("the call's deadline passed before there was room for it") from None
        finally:
            self._waiting -= 1

    @property
    def is_idle(self) -> bool:
        """Whether no request has a place or waits for one."""
        return not (self.images or self._waiting)

    def give_back(self, images: int, image_bytes: int) -> None:
        """Take a request that has ended out of the counts, and let the next one try that waits."""
        self.images -= images
        self.image_bytes -= image_bytes
        self._freed.set()


class _Place:
    """Counted from `with` to the end of its block. A class, for a generator would cost every call more."""

    __slots__ = ("_admission", "_image_bytes", "_images")

    def __init__(self, admission: Admission, images: int, image_bytes: int) -> None:
        self._admission, self._images, self._image_bytes = admission, images, image_bytes

    def __enter__(self) -> None:
        self._admission.images += self._images
        self._admission.image_bytes += self._image_bytes

    def __exit__(self, *_: object) -> None:
        self._admission.give_back(self._images, self._image_bytes)
