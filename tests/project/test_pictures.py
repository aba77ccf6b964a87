"""`docs.generate.pictures`: a picture is a whole SVG in which every point has its name, and names do not overlap."""

from xml.etree import ElementTree

from docs.generate.pictures import COLOURS, LINE, draw, draw_models, find_room, is_shown, list_ticks
from docs.generate.results import read_rows

SVG = "{http://www.w3.org/2000/svg}"


def test_every_shown_model_is_a_named_point() -> None:
    root = ElementTree.fromstring(draw_models())  # noqa: S314  # our own text
    names = [text.text for text in root.iter(f"{SVG}text")]
    shown = [row for row in read_rows("models") if is_shown(row)]
    assert len(list(root.iter(f"{SVG}circle"))) == len(shown) > 3
    assert {row["model"] for row in shown} <= {str(name).partition(",")[0] for name in names}


def test_more_accurate_is_higher_and_more_costly_is_further_right() -> None:
    points = [(10, 0.92, "a", COLOURS["int8"]), (100, 0.95, "b", COLOURS["float32"])]
    circles = list(ElementTree.fromstring(draw(points, "cost")).iter(f"{SVG}circle"))  # noqa: S314
    (x_a, y_a), (x_b, y_b) = ((float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles)
    assert x_a < x_b
    assert y_a > y_b


def test_a_name_that_would_cover_another_moves_down() -> None:
    written: list[tuple[float, float]] = []
    assert [find_room(100, 50, written), find_room(104, 51, written)] == [50, 51 + LINE]
    assert find_room(400, 50, written) == 50


def test_ticks_are_round_numbers_within_the_axis() -> None:
    assert list_ticks(0.5, 2.1) == [5, 10, 20, 50, 100]
