"""The page in a real browser: drawing, choosing, what it says of an answer, and where its requests go."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serve.web.browser.strokes import DIGITS, draw, wait_for_answer
from tests.serve.web.doors import open_door
from tests.support import ROOT, RunningServer

pytestmark = pytest.mark.slow

CAT = ROOT / "samples/objects/cat-chelsea.jpg"
SEVEN = ROOT / "samples/digits/7-crossed-pen.png"
Open = Callable[..., Any]
Shoot = Callable[[Any, str], None]


@pytest.mark.parametrize("digit", DIGITS)
def test_each_digit_that_a_mouse_draws_is_right(page: Any, shoot: Shoot, digit: str) -> None:
    draw(page, digit)
    wait_for_answer(page, digit)
    assert page.locator("#bars li").count() == 5
    shoot(page, f"digit-{digit}")


def test_the_answer_comes_while_one_draws(page: Any) -> None:
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 110, box["y"] + 250, steps=10)
    page.wait_for_selector("#result:not([hidden])")
    page.mouse.up()


def test_undo_takes_a_stroke_back_and_clear_takes_all(page: Any, shoot: Shoot) -> None:
    shoot(page, "empty")
    draw(page, "1")
    wait_for_answer(page, "1")
    draw(page, "0")
    page.click("#undo")
    wait_for_answer(page, "1")
    page.click("#clear")
    assert page.locator("#empty").is_visible()
    assert page.locator("#hint").is_visible()
    assert page.locator("#undo").is_disabled()


def test_the_page_tells_what_the_net_saw_and_where_the_time_went(page: Any) -> None:
    draw(page, "3")
    wait_for_answer(page, "3")
    picture = page.locator("#steps img").last
    assert picture.evaluate("each => each.decode().then(() => [each.naturalWidth, each.naturalHeight])") == [28, 28]
    assert page.locator("#times dt").all_text_contents() == [
        *("waiting", "decoding", "preparing", "the net", "the way here and back")
    ]
    assert re.search(r"99\.\d\d% of 10,000 test images", page.locator("#facts").text_content())


def make_transfer(page: Any, file: Any) -> Any:
    """What a browser hands over when somebody drops or pastes a file."""
    return page.evaluate_handle(
        "([name, text]) => { const data = new DataTransfer();"
        "data.items.add(new File([Uint8Array.from(atob(text), each => each.charCodeAt(0))], name, "
        "{type: name.endsWith('jpg') ? 'image/jpeg' : 'image/png'})); return data; }",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )


def test_a_picture_that_is_dropped_is_classified(page: Any, shoot: Shoot) -> None:
    page.select_option("#model", "cifar10/1")
    page.locator("#stage").dispatch_event("drop", {"dataTransfer": make_transfer(page, CAT)})
    wait_for_answer(page, "cat")
    assert page.locator("#shown").is_visible()
    assert page.locator("#shown").get_attribute("alt") == "Your picture, cat-chelsea.jpg"
    shoot(page, "dropped")


def test_a_picture_that_is_pasted_is_classified(page: Any) -> None:
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))",
        make_transfer(page, SEVEN),
    )
    wait_for_answer(page, "7")


def test_a_picture_that_is_chosen_is_classified(page: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    chooser.value.set_files(SEVEN)
    wait_for_answer(page, "7")


def test_samples_fit_the_model_and_are_classified(page: Any) -> None:
    assert page.locator("#samples button").count() == 6
    page.click("#samples li:nth-child(2) button")
    wait_for_answer(page, "2")
    page.select_option("#model", "cifar10/1")
    page.click("#samples li:first-child button")
    wait_for_answer(page, "cat")
    assert page.locator("#samples button[aria-pressed=true] img").get_attribute("alt") == "Sample: cat chelsea"


def test_the_tagline_speaks_of_digits_to_models_of_digits_alone(page: Any) -> None:
    tagline = page.locator("#tagline")
    assert tagline.text_content().startswith("Draw a digit or drop a picture")
    page.select_option("#model", "cifar10/1")
    assert tagline.text_content().startswith("Draw or drop a picture")
    page.click("[data-language=ru]")
    assert tagline.text_content().startswith("Нарисуйте или перетащите картинку")
    page.select_option("#model", "mnist/1")
    assert tagline.text_content().startswith("Нарисуйте цифру или перетащите картинку")


def test_a_model_of_other_labels_has_no_samples(
    start_server: Callable[..., RunningServer], repository_folder: Path, open_page: Open
) -> None:
    with open_door(start_server(repository_folder).address) as door:
        page = open_page(door.url)
        assert page.locator("#samples button").count() == 0
        assert page.locator("#samples-title").is_hidden()
        assert page.locator("#tagline").text_content().startswith("Draw or drop a picture")


def test_a_sample_that_cannot_be_had_is_a_problem_and_no_picture(page: Any) -> None:
    page.route("**/static/samples/**", lambda route: route.fulfill(status=404, json={"message": "no such sample"}))
    page.click("#samples li:first-child button")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.locator("#problem").text_content() == "No answer: no such sample"
    assert page.locator("#shown").is_hidden()


def test_a_browser_without_scripts_is_told_so_in_both_languages(browser: Any, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    sentences = page.locator("noscript p")
    assert sentences.first.is_visible()
    assert "works only with JavaScript" in sentences.first.text_content()
    assert "страница работает только" in sentences.last.text_content()
    context.close()


def test_the_samples_of_the_page_are_those_of_the_repository() -> None:
    folder = ROOT / "serve/web/static/samples"
    copies = [path for path in folder.rglob("*") if path.is_file()]
    assert len(copies) == 12
    for copy in copies:
        assert copy.read_bytes() == (ROOT / "samples" / copy.relative_to(folder)).read_bytes()


def test_a_file_that_is_no_picture_gets_the_servers_sentence(page: Any, shoot: Shoot) -> None:
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    page.wait_for_selector("#problem:not([hidden])")
    assert "No answer: wanted" in page.locator("#problem").text_content()
    shoot(page, "problem")
    draw(page, "7")
    wait_for_answer(page, "7")
    assert page.locator("#problem").is_hidden()


def style(page: Any) -> Any:
    """The computed style of the page's body."""
    return page.evaluate_handle("getComputedStyle(document.body)")


def test_no_request_leaves_the_machine(open_page: Open, url: str) -> None:
    page = open_page()
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#samples button")
    draw(page, "2")
    wait_for_answer(page, "2")
    page.goto(f"{url}/docs")
    assert len(asked) > 5
    assert all(each.startswith((f"{url}/", "data:", "blob:")) for each in asked), asked


@pytest.mark.parametrize(
    ("share", "sentence", "is_care"),
    [
        (0.4, "This looks like what the model knows.", False),
        (0.03, "Of the pictures that the model knows, only 3.0% look less typical.", True),
        (0.0, "This does not look like anything that the model knows. Do not rely on the answer.", True),
    ],
)
def test_familiarity_is_a_plain_sentence(page: Any, shoot: Shoot, share: float, sentence: str, is_care: bool) -> None:
    """A reply of the server with the field written in, and with steps and notes of the preparation."""

    def write_in(route: Any) -> None:
        reply = route.fetch()
        content = reply.json()
        content["classification"]["familiarity"] = share
        png = content["classification"]["preparedPng"]
        content["classification"]["steps"] = [{"name": name, "png": png} for name in ("ink", "turned", "prepared")]
        content["classification"]["notes"] = ["ONE_PART", "SEVERAL_PARTS"]
        route.fulfill(response=reply, json=content)

    page.route("**/*:classify?*", write_in)
    draw(page, "8")
    wait_for_answer(page, "8")
    line = page.locator("#familiarity")
    assert line.text_content() == sentence
    assert ("care" in line.get_attribute("class")) is is_care
    assert page.locator("#steps figcaption").all_text_contents() == ["the ink", "turned", "28 \u00d7 28 pixels"]
    assert page.locator("#notes").text_content() == "There seems to be more than one thing in the picture."
    shoot(page, f"familiarity-{share}")
