"""The page in a real browser: its languages, its dark colours, and a phone's width."""

from typing import Any

import pytest

from tests.serve.web.browser.strokes import DIGITS, draw, wait_for_answer
from tests.serve.web.browser.test_page import Open, Shoot

pytestmark = pytest.mark.slow
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def test_the_page_speaks_russian(page: Any, shoot: Shoot) -> None:
    page.click("[data-language=ru]")
    page.select_option("#model", "cifar10/1")
    page.click("#samples li:first-child button")
    wait_for_answer(page, "кот")
    assert page.locator("html").get_attribute("lang") == "ru"
    assert page.locator("h2").all_text_contents() == ["Ваша картинка", "Ответ"]
    assert "верно" in page.locator("#facts").text_content()
    shoot(page, "russian")
    page.reload()
    page.wait_for_selector("#samples button")
    assert page.locator("#answer-title").text_content() == "Ответ"


def test_a_russian_browser_gets_russian_at_once(open_page: Open) -> None:
    page = open_page(locale="ru-RU")
    assert page.locator("#choose").text_content() == "Выбрать картинку"
    assert page.locator("#labels").input_value() == "ru"


def test_both_languages_have_the_same_texts(page: Any) -> None:
    english, russian = page.evaluate("[Object.keys(TEXTS.en), Object.keys(TEXTS.ru)]")
    assert english == russian
    marks = "texts => Object.values(texts).map(text => (text.match(/{\\w+}/g) || []).sort().join())"
    assert page.evaluate(f"({marks})(TEXTS.en)") == page.evaluate(f"({marks})(TEXTS.ru)")


def test_dark_colours_are_dark(open_page: Open, shoot: Shoot) -> None:
    page = open_page(color_scheme="dark")
    draw(page, "5")
    wait_for_answer(page, "5")
    paper, ink = page.evaluate(
        "[...'ab'].map((_, at) => getComputedStyle(document.body)[at ? 'color' : 'backgroundColor'])"
    )
    assert max(map(int, paper[4:-1].split(","))) < 60
    assert min(map(int, ink[4:-1].split(","))) > 200
    shoot(page, "dark")


def test_a_finger_draws_at_a_phones_width_and_nothing_is_cut(open_page: Open, shoot: Shoot) -> None:
    page = open_page(**PHONE)
    box = page.locator("#pad").bounding_box()
    touch = page.context.new_cdp_session(page)
    for place, (x, y) in enumerate(DIGITS["1"][0]):
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        kind = "touchMove" if place else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for_answer(page, "1")
    assert page.locator("#badge").is_visible()
    assert page.locator("#badge").text_content().startswith("1 ")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "phone")
