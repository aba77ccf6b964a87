"""The page for everybody: by keyboard alone, with a screen reader, with a token, and when the server is gone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serve.web.browser.strokes import draw, wait_for_answer
from tests.serve.web.doors import find_free_port, open_door
from tests.served import served
from tests.support import ROOT, RunningServer

pytestmark = pytest.mark.slow

ALICES = "a-secret-of-many-letters"
PHONE = {"viewport": {"width": 375, "height": 740}}
Open = Callable[..., Any]
Shoot = Callable[[Any, str], None]


def press_tab_until(page: Any, selector: str) -> None:
    """Move the focus as somebody without a mouse does."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab leads to {selector}")


def press(page: Any, key: str, times: int) -> None:
    for _ in range(times):
        page.keyboard.press(key)


def test_the_keyboard_alone_draws_a_digit_and_clears_it(page: Any, shoot: Shoot) -> None:
    press_tab_until(page, "#pad")
    press(page, "ArrowUp", 9)
    press(page, "ArrowLeft", 4)
    page.keyboard.press(" ")
    press(page, "ArrowRight", 9)
    for row in range(9):
        press(page, "ArrowDown", 2)
        press(page, "ArrowLeft", row % 2)
    page.keyboard.press(" ")
    wait_for_answer(page, "7")
    shoot(page, "keyboard")
    page.keyboard.press("z")
    assert page.locator("#empty").is_visible()


def test_the_keyboard_alone_takes_a_sample_a_model_and_a_language(page: Any) -> None:
    press_tab_until(page, "#samples button")
    page.keyboard.press("Enter")
    wait_for_answer(page, "3")
    press_tab_until(page, "#model")
    page.keyboard.press("ArrowDown")
    assert page.locator("#model").input_value() == "cifar10/1"
    page.reload()
    page.wait_for_selector("#samples button")
    press_tab_until(page, "[data-language=ru]")
    page.keyboard.press("Enter")
    assert page.locator("#answer-title").text_content() == "Ответ"


def test_a_choice_of_a_file_is_a_key_away(page: Any) -> None:
    """The system's own window is not opened: a browser without a screen does not always say that it would be."""
    page.evaluate("find('file').addEventListener('click', event => { event.preventDefault(); state.isChosen = true; })")
    press_tab_until(page, "#choose")
    page.keyboard.press("Enter")
    page.wait_for_function("() => state.isChosen")
    page.set_input_files("#file", ROOT / "samples/digits/7-crossed-pen.png")
    wait_for_answer(page, "7")


def test_a_screen_reader_is_told_the_answer_once_the_pen_rests(page: Any) -> None:
    draw(page, "4")
    wait_for_answer(page, "4")
    page.wait_for_function("() => /^4, \\d/.test(document.getElementById('live').textContent)")
    tree = page.locator("body").aria_snapshot()
    for part in ('application "Drawing area"', 'combobox "Model"', 'heading "Answer"', "status"):
        assert part in tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(open_page: Open, axe: str, scheme: str, size: dict[str, Any]) -> None:
    page = open_page(color_scheme=scheme, bypass_csp=True, **size)
    find = "async () => (await axe.run()).violations.map(each => [each.id, each.nodes.map(node => node.html)])"
    page.evaluate(axe)
    assert page.evaluate(find) == []
    draw(page, "6")
    wait_for_answer(page, "6")
    page.click("details summary")
    assert page.evaluate(find) == []
    page.click("[data-language=ru]")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    page.wait_for_selector("#problem:not([hidden])")
    assert page.evaluate(find) == []
    page.goto(page.url + "docs")
    page.evaluate(axe)
    assert page.evaluate(find) == []


def test_a_door_that_is_gone_and_back_is_told_and_asked_again(
    start_server: Callable[..., RunningServer], repository_folder: Path, open_page: Open, shoot: Shoot
) -> None:
    port, address = find_free_port(), start_server(repository_folder).address
    with open_door(address, port=port) as door:
        page = open_page(door.url)
        draw(page, "1")
        page.wait_for_selector("#result:not([hidden])")
    draw(page, "7")
    page.wait_for_selector("#banner:not([hidden])")
    assert "does not answer" in page.locator("#banner").text_content()
    shoot(page, "gone")
    with open_door(address, port=port):
        page.wait_for_selector("#banner", state="hidden", timeout=20_000)
        page.wait_for_selector("#result:not([hidden])")


def test_a_server_that_is_gone_behind_the_door_and_back_is_told(repository_folder: Path, open_page: Open) -> None:
    port = str(find_free_port())
    with open_door(f"127.0.0.1:{port}") as door:
        with served(repository_folder, "--port", port, "--metrics-port", "0") as server:
            assert server.address
            page = open_page(door.url)
        draw(page, "7")
        page.wait_for_selector("#banner:not([hidden])", timeout=20_000)
        with served(repository_folder, "--port", port, "--metrics-port", "0"):
            page.wait_for_selector("#banner", state="hidden", timeout=40_000)
            page.wait_for_selector("#result:not([hidden])")


def test_a_server_with_tokens_is_asked_with_the_one_that_is_typed(
    start_server: Callable[..., RunningServer], repository_folder: Path, browser: Any, tmp_path: Path, shoot: Shoot
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"alice {ALICES}\n")
    with open_door(start_server(repository_folder, tokens=file).address) as door:
        page = browser.new_page()
        page.goto(door.url)
        page.wait_for_selector("#token-form:not([hidden])")
        shoot(page, "token")
        page.fill("#token", ALICES)
        page.keyboard.press("Enter")
        page.wait_for_selector("#model option", state="attached")
        draw(page, "1")
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#token-form").is_hidden()
        page.close()
