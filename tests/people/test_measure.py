"""`tests.people.measure`: the share of people's pictures that is right, measured on few of them."""

import pytest

from tests.people.measure import main
from train.data.datasets import default_folder


@pytest.mark.parametrize(
    ("model", "row", "file"),
    [
        ("mnist", "shadow 50%", "mnist/train-images-idx3-ubyte.gz"),
        ("cifar10", "JPEG 50", "cifar-10-batches-py/test_batch"),
    ],
)
def test_a_row_has_the_share_that_is_right(model: str, row: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (default_folder() / file).is_file():
        pytest.skip(f"needs the dataset {model}")
    assert main([model, "--test", "--count", "20", "--row", row]) == 0
    name, _, rest = capsys.readouterr().out.partition("   ")
    assert name == row
    assert float(rest.split()[0]) >= 0.7
