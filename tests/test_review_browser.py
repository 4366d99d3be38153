"""The review page as a browser shows it, opened from a file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from propagate.output.labelled_clip import LabelSource
from propagate.review import ReviewRequest, review_labels
from tests.review_clips import COUNT, EVIL, LOST, write_keypoint_run, write_mask_run

# Selenium is never to look for a driver, or to say that it was used.
os.environ |= {"SE_AVOID_STATS": "true", "SE_OFFLINE": "true"}

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    # Leave the browser's own first page, which is none of the program's.
    started.get("about:blank")
    yield started
    started.quit()


class Page:
    """A page in the browser."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.url = path.as_uri()
        self.open()

    def open(self, fragment: str = "") -> None:
        # By way of another page, since a changed fragment alone loads nothing.
        self.driver.get("about:blank")
        self.driver.get(self.url + fragment)
        self.settle()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        """Wait until the frame in view is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "redraw().then(() => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()
        self.settle()

    def click(self, selector: str, number: int = 0) -> None:
        self.driver.find_elements("css selector", selector)[number].click()
        self.settle()

    @property
    def frame(self) -> int:
        shown = self.run("return [canvas.dataset.frame, byId('now-frame').textContent]")
        assert shown[1] == f"Frame {shown[0]}"
        return int(shown[0])

    def pixel(self, x: float, y: float) -> list[int]:
        """Colour of the canvas at a place of the clip's picture, in pixels."""
        return self.run(
            "const s = canvas.width / clip.shownSize[0];"
            "const copy = new OffscreenCanvas(1, 1).getContext('2d');"
            "copy.drawImage(canvas, -Math.floor(arguments[0] * s), -Math.floor(arguments[1] * s));"
            "return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3)",
            x,
            y,
        )

    def text(self, name: str) -> str:
        return self.run("return byId(arguments[0]).innerText", name)


Opener = Callable[[Path], Page]


@pytest.fixture
def open_page(driver: Any) -> Iterator[Opener]:
    """Opens pages, and checks afterwards that nothing went wrong or was asked for."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    yield lambda path: Page(driver, path)
    assert driver.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert {url.split(":")[0] for url in urls} <= {"file", "data", "about"}
    driver.get("about:blank")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    source = LabelSource(labels=write_mask_run(folder))
    return review_labels(ReviewRequest(source=source, output=folder / "page.html")).path


def test_it_opens_at_the_worst_frame_and_keys_move(masks: Path, open_page: Opener) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(masks)
    assert page.frame == LOST[0]
    assert page.text("now-reasons").splitlines() == ["other: lost"]
    page.press(Keys.ARROW_RIGHT)
    assert page.frame == LOST[0] + 1
    page.press(Keys.ARROW_LEFT)
    page.press(Keys.ARROW_LEFT)
    assert page.frame == LOST[0] - 1
    page.press(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert page.frame == COUNT - 1
    page.press(Keys.HOME)
    assert page.frame == 0
    assert "labels given by you" in page.text("now-reasons")
    page.press("n")
    assert page.frame == LOST[0]
    page.press(Keys.END)
    page.press("p")
    assert page.frame == LOST[0]


def test_the_picture_changes_with_the_slider(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    for index in (3, 12):
        page.run(
            "const s = byId('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            index,
        )
        page.settle()
        assert page.frame == index
        assert page.pixel(5, 5) == pytest.approx(
            [60 + 4 * index, 60 + 4 * index, 100 + 4 * index], abs=4
        )


def test_play_goes_on_to_the_end(masks: Path, open_page: Opener) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    page = open_page(masks)
    page.run("clip.fps = 100; goTo(2)")
    page.press(" ")
    WebDriverWait(page.driver, 20).until(lambda _: page.run("return view.position") == COUNT - 1)
    WebDriverWait(page.driver, 20).until(lambda _: page.run("return playing") is None)


def test_the_overlay_hides_and_single_objects_do(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    page.open("#4")
    one, two, ground = (36, 30), (90, 80), (5, 5)
    tinted = [page.pixel(*place) for place in (one, two, ground)]
    page.press("o")
    bare = page.pixel(*ground)
    assert [page.pixel(*place) for place in (one, two)] == [pytest.approx(bare, abs=4)] * 2
    page.press("o")
    assert [page.pixel(*place) for place in (one, two, ground)] == tinted
    page.press("1")
    assert page.pixel(*one) == pytest.approx(bare, abs=4)
    assert page.pixel(*two) == tinted[1]
    assert not page.run("return rows[0].box.checked")
    page.click(".lane input", 0)
    page.click(".lane input", 1)
    assert page.pixel(*one) == tinted[0]
    assert page.pixel(*two) == pytest.approx(bare, abs=4)
    page.press("0")
    page.press("f")
    page.press("f")
    assert page.run("return view.form") == "outline"
    assert page.pixel(*two) == pytest.approx(bare, abs=4)
    assert page.pixel(80.5, 70) != pytest.approx(bare, abs=40)


def test_flagged_frames_are_listed_marked_and_remembered(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    page.press("n")
    page.open("#0")
    page.click("#list .jump")
    assert page.frame == LOST[0]
    assert page.text("progress") == "0 of 1 checked"
    page.press("c")
    assert page.text("progress") == "1 of 1 checked"
    page.open("#0")
    assert page.text("progress") == "1 of 1 checked"
    page.click("#list .check input")
    assert page.run("return framesLeft()") == [LOST[0]]
    assert page.text("command").endswith("--ref 0=fix.png")


def test_curves_lead_to_their_frame(masks: Path, open_page: Opener) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page = open_page(masks)
    curve = page.driver.find_elements("css selector", "#tracks canvas")[1]
    width = curve.size["width"] - 16
    ActionChains(page.driver).move_to_element_with_offset(
        curve, round(width * 12 / (COUNT - 1) - width / 2), 0
    ).click().perform()
    page.settle()
    assert page.frame == 12
    assert page.run("return rows.map((row) => row.value.textContent)") == [".90", ".90"]
    low = page.run("goTo(9); return rows.map((row) => row.value.className)")
    assert low == ["value", "value low"]


def test_a_name_that_is_markup_is_shown_as_it_is(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    assert page.run("return document.querySelector('.lane .name').textContent") == EVIL
    assert page.run("return document.images.length") == 0


def test_the_address_opens_a_frame(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    page.open("#13")
    assert page.frame == 13
    page.run("location.hash = '#2'")
    page.settle()
    assert page.frame == 2
    page.open("#99")
    assert page.frame == COUNT - 1
    assert "Frame 99 is not in this page" in page.text("missing")


def test_help_opens_and_closes_by_key(masks: Path, open_page: Opener) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(masks)
    page.press("?")
    assert page.run("return byId('help').open")
    page.press(Keys.ESCAPE)
    assert not page.run("return byId('help').open")


def test_nothing_is_wider_than_a_narrow_window(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    for width in (320, 480, 900):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        page.settle()
        assert page.run("return document.documentElement.scrollWidth") <= width
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(masks: Path, open_page: Opener) -> None:
    page = open_page(masks)
    for control in page.driver.find_elements("css selector", "button, input, select, canvas[role]"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")


def test_keypoints_are_drawn_and_hidden(tmp_path: Path, open_page: Opener) -> None:
    source = LabelSource(labels=write_keypoint_run(tmp_path))
    page = open_page(
        review_labels(ReviewRequest(source=source, output=tmp_path / "page.html")).path
    )
    page.open("#1")
    nose, bone, ground = (21, 20), (45.5, 35), (5, 5)
    bare = page.pixel(*ground)
    assert page.pixel(*nose) != pytest.approx(bare, abs=40)
    assert min(page.pixel(*bone)) > 240
    page.press("1")
    assert page.pixel(*nose) == pytest.approx(bare, abs=4)
    assert page.pixel(*bone) == pytest.approx(bare, abs=4)
    page.press("0")
    page.open("#4")
    assert page.pixel(45.5, 35) == pytest.approx(page.pixel(*ground), abs=4)
