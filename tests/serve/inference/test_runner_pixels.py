"""serve.inference.runner: ready pixels beside image files, calls whose images stand together, and what is counted."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.errors import Overloaded, TruncatedImage, UnreadableImage
from serve.images.pool import DecodePool
from serve.inference import device, engine
from serve.inference.answer import Answer
from serve.inference.runner import Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import IdleCores
from tests.support import draw_images

Use = Callable[[Runner], Awaitable[None]]


def to_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"])
def use_runner(repository_folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[Use], Runner]]:
    """A function that runs a coroutine with a runner of the tiny model that takes up to 8 images."""
    with ThreadPoolExecutor(1) as decoders:

        def use(test: Use) -> Runner:
            async def main() -> Runner:
                placement = device.Placement("cpu", request.param, max_batch=4, gpu_memory_bytes=0, most_threads=2)
                loaded = engine.load(repository_folder / "bands/1/model.onnx", placement)
                loaded.warm_up()
                limits = RunnerLimits(8, 2**20, 0, max_image_pixels=2**20)
                cpu = CpuPolicy(2, 0, IdleCores(2))
                runner = Runner("bands", 1, loaded, limits=limits, cpu=cpu, pool=DecodePool(decoders, 1, 2**22, 2**20))
                await test(runner)
                await runner.close()
                return runner

            return asyncio.run(main())

        yield use


def test_pixels_get_the_answers_of_the_files_that_hold_them(use_runner: Callable[[Use], Runner]) -> None:
    pixels = list(draw_images(6))

    async def test(runner: Runner) -> None:
        mixed = [to_png(each) if index % 2 else each for index, each in enumerate(pixels)]
        ready, files, both = [await runner.classify(images) for images in (pixels, list(map(to_png, pixels)), mixed)]
        assert len(ready) == 6
        for one, other, third in zip(ready, files, both, strict=True):
            assert isinstance(one, Answer)
            assert isinstance(other, Answer)
            assert isinstance(third, Answer)
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
            assert third.probabilities == pytest.approx(other.probabilities, abs=1e-6)
            assert one.image.decode_us == one.image.prepare_us == 0

    use_runner(test)


def test_pixels_are_counted_in_bytes_while_they_wait(use_runner: Callable[[Use], Runner]) -> None:
    pixels = np.zeros((12, 12, 3), np.uint8)

    async def test(runner: Runner) -> None:
        taken: list[tuple[int, int]] = []
        submit = runner._batcher.submit
        runner._batcher.submit = lambda *arguments: (  # type: ignore[method-assign]
            taken.append((runner.admission.images, runner.admission.image_bytes)) or submit(*arguments)
        )
        await runner.classify([pixels] * 3)
        assert taken == [(3, 3 * pixels.nbytes)]
        assert (runner.admission.images, runner.admission.image_bytes) == (0, 0)

    use_runner(test)


def test_images_that_stand_together_fail_with_the_first_that_does(use_runner: Callable[[Use], Runner]) -> None:
    good = to_png(draw_images(1)[0])

    async def test(runner: Runner) -> None:
        with pytest.raises(UnreadableImage, match=r"^image 1: wanted a PNG"):
            await runner.classify_together([good, b"text", b""])
        with pytest.raises(TruncatedImage, match=r"^image 0: wanted a whole"):
            await runner.classify_together([good[: len(good) // 2]])
        assert len(await runner.classify_together([good] * 5)) == 5

    use_runner(test)


def test_a_call_that_finds_no_room_fails_and_one_that_may_wait_waits(use_runner: Callable[[Use], Runner]) -> None:
    pixels = np.zeros((12, 12, 3), np.uint8)

    async def test(runner: Runner) -> None:
        admitted = asyncio.Event()
        with runner.admission.admit(8, 0):
            with pytest.raises(Overloaded):
                await runner.classify([pixels])
            patient = asyncio.create_task(runner.classify([pixels], None, str, admitted))
            await asyncio.sleep(0.01)
            assert not admitted.is_set()
        (answer,) = await patient
        assert isinstance(answer, Answer)
        assert admitted.is_set()

    use_runner(test)
