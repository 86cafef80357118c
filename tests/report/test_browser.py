"""The page in a real browser: on a phone and on a screen, in light and dark, with and without scripts.

One headless Chromium serves all tests.
"""

import json
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ratewise.report.page import SECTIONS, page

from . import example

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and chromedriver to open the page")

QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "about:blank",
)  # fmt: skip
STUDIES = {
    "finished": example.result,
    "raced": example.raced,
    "unfinished": lambda: example.unfinished(example.result()),
    "diverged": lambda: example.diverged(example.result()),
    "old": example.old,
    "thirty": lambda: example.many(30),
    "empty": dict,
}

CONTRAST = """
const ink = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgba(colour) {
  ink.clearRect(0, 0, 1, 1);
  ink.fillStyle = colour;
  ink.fillRect(0, 0, 1, 1);
  return [...ink.getImageData(0, 0, 1, 1).data].map((x) => x / 255);
}
const over = (top, below, alpha) => [0, 1, 2].map((i) => alpha * top[i] + (1 - alpha) * below[i]);
function light(colour) {
  const [r, g, b] = colour.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const ancestors = (e) => (e ? [e, ...ancestors(e.parentElement)] : []);
for (const fold of document.querySelectorAll("details")) fold.open = true;
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim() || !element.checkVisibility() || element.closest("script, style, title")) continue;
  const chain = ancestors(element);
  const opacity = chain.reduce((product, e) => product * getComputedStyle(e).opacity, 1);
  if (!opacity) continue;
  const paper = chain.reverse().reduce((below, e) => {
    const [r, g, b, a] = rgba(getComputedStyle(e).backgroundColor);
    return over([r, g, b], below, a);
  }, [1, 1, 1]);
  const style = getComputedStyle(element);
  const [r, g, b, a] = rgba(element.closest("svg") ? style.fill : style.color);
  const [one, other] = [light(over([r, g, b], paper, a * opacity)), light(paper)];
  found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), node.data.trim()]);
}
return found;
"""
"""The contrast of every visible piece of text with what is behind it, as WCAG 2 defines it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, make in STUDIES.items():
        (folder / f"{name}.html").write_text(page(make()), encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, pages):
    """Open a page in a window of a width, in a theme; afterwards everything is as before."""

    def show(study, width=1280, theme="light"):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        browser.get((pages / f"{study}.html").as_uri())
        WebDriverWait(browser, 20).until(lambda b: b.execute_script("return document.readyState") == "complete")
        return browser

    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of the test before
    yield show
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def requested(browser, address):
    """The addresses of everything that a page asked for, itself included."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {request["request"]["url"] for request in sent if request["documentURL"] == address}


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("width", [390, 1280])
def test_all_ten_sections_are_seen_without_scrolling_sideways(opened, pages, study, width):
    browser = opened(study, width)
    shown = [s.get_attribute("id") for s in browser.find_elements(By.TAG_NAME, "section") if s.is_displayed()]
    assert shown == [title.lower().replace(" ", "-") for title in SECTIONS]
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    assert browser.get_log("browser") == []
    address = (pages / f"{study}.html").as_uri()
    assert requested(browser, address) == {address}


@pytest.mark.parametrize("study", ["raced", "unfinished"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_can_be_read_in_both_themes(opened, study, theme):
    browser = opened(study, theme=theme)
    found = browser.execute_script(CONTRAST)
    assert len(found) > 300
    assert [(ratio, text) for ratio, text in found if ratio < 4.5] == []


def test_the_page_follows_the_theme_of_the_reader(opened):
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert opened("finished", theme="light").execute_script(paper) == "rgb(251, 250, 247)"
    assert opened("finished", theme="dark").execute_script(paper) == "rgb(20, 23, 26)"


@pytest.mark.parametrize("width", [390, 1280])
def test_names_in_drawings_stay_on_the_page_and_apart(opened, width):
    browser = opened("thirty", width)
    boxes = """
        return [...document.querySelectorAll(".plot:not(.tiny)")].map((plot) =>
          [...plot.querySelectorAll(".who, .wide, .narrow, .ends text")].filter((e) => e.checkVisibility())
            .map((e) => e.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom]))"""
    for drawing in browser.execute_script(boxes):
        assert [box for box in drawing if box[0] < 0 or box[2] > width] == []
        hit = [
            (a, b) for i, a in enumerate(drawing) for b in drawing[:i]
            if a[0] < b[2] and b[0] < a[2] and min(a[3], b[3]) - max(a[1], b[1]) > 3
        ]  # fmt: skip
        assert hit == []


def test_a_button_highlights_its_strategy_everywhere_until_escape(opened):
    browser = opened("raced")
    button = next(b for b in browser.find_elements(By.CSS_SELECTOR, ".picker button") if b.text == "linear")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    marked = browser.find_elements(By.CSS_SELECTOR, "tr.on th")
    assert {cell.get_attribute("textContent") for cell in marked} == {"linear"}
    assert len(marked) == 6
    assert all(browser.find_elements(By.CSS_SELECTOR, f".{plot} .strategy.on")
               for plot in ("forest", "fan", "overlay", "ways", "places"))  # fmt: skip
    dimmed = "return getComputedStyle(document.querySelector('.forest .strategy:not(.on)')).opacity < 1"
    assert browser.execute_script(f"{dimmed} || new Promise((done) => setTimeout(() => done({dimmed[7:]}), 400))")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert button.get_attribute("aria-pressed") == "false"
    assert browser.find_elements(By.CSS_SELECTOR, ".picked") == []


def test_a_click_on_a_row_highlights_too_and_again_lets_go(opened):
    browser = opened("finished")
    cell = browser.find_element(By.CSS_SELECTOR, "#results tbody tr:nth-child(3) td")
    cell.click()
    assert browser.find_element(By.CSS_SELECTOR, "[aria-pressed=true]").text == "linear"
    cell.click()
    assert browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]") == []


def test_the_copy_button_puts_the_code_into_the_clipboard_or_selects_it(opened):
    browser = opened("finished")
    button = browser.find_element(By.CSS_SELECTOR, ".copy")
    button.click()
    said = until(lambda: button.text if button.text != "Copy" else None)
    if said == "Copied":
        browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
        taken = browser.execute_script("return navigator.clipboard.readText()")
    else:
        assert said == "Selected"
        taken = browser.execute_script("return getSelection().toString()")
    assert taken.strip() == example.result()["code"].strip()


def test_the_save_button_gives_the_result_back(opened, tmp_path):
    browser = opened("finished")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element(By.CSS_SELECTOR, ".save").click()
    file = tmp_path / "ratewise-digits.json"
    until(file.exists)
    assert json.loads(file.read_text()) == json.loads(json.dumps(example.result()))


def test_everything_can_be_read_without_scripts(opened):
    browser = opened("finished")
    with_scripts = browser.find_element(By.CSS_SELECTOR, "main").text
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser = opened("finished")
    assert not browser.find_element(By.CSS_SELECTOR, ".picker").is_displayed()
    assert not browser.find_element(By.CSS_SELECTOR, ".copy").is_displayed()
    text = browser.find_element(By.CSS_SELECTOR, "main").text
    lost = {line for line in with_scripts.splitlines() if line not in text}
    assert lost == {"Highlight", "Copy", "Save the data as JSON"}
    browser.find_element(By.CSS_SELECTOR, "#rates summary").click()
    assert "0.8 (5 of 5)" in browser.find_element(By.ID, "rates").text


def until(condition, seconds=10.0):
    """Return what a condition gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found
