"""The lesson book in a browser: what a reader does with it, with a mouse, with a keyboard, and by ear."""

import os
import shutil

import pytest

from rmqspec.tools.book.binder import bind
from rmqspec.tools.book.render import page as printed

from .book_records import NASTY, event, record, spec, three

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses root its sandbox
DEEP = "test_06_acks.TestRabbitMQ.test_keeps_both_kinds-quorum"


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("not run: the book is opened by Playwright: pip install 'rmqspec[book]'")
    if CHROMIUM is None:
        pytest.skip("not run: there is no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "book.html"
    path.write_text(printed(bind(three())))
    return path.as_uri()


@pytest.fixture
def open_page(browser):
    """Opens a page of its own: `open_page(url, color_scheme="dark")`. What it complains of fails the test."""
    contexts, complaints = [], []

    def complain(what):
        complaints.append(what)

    def watch(request):
        if not request.url.startswith("file://"):
            complain(f"asks for {request.url}")

    def start(url, **how):
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and complain(message.text))
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: (complain(f"runs {dialog.message}"), dialog.dismiss()))
        page.on("request", watch)
        page.goto(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def in_view(page, name):
    """Whether the top of an element is on the screen, and so is what is above the fold of it."""
    script = "name => { const r = document.getElementById(name).getBoundingClientRect(); return [r.top, innerHeight]; }"
    top, height = page.evaluate(script, name)
    return -5 <= top < height / 2


class TestReader:
    """Somebody with a browser."""

    def test_opens_every_chapter_from_the_side(self, open_page, book):
        """A link that scrolls past its heading leaves the reader in another chapter."""
        page = open_page(book)
        links = page.locator("nav a")

        for number in range(links.count()):
            links.nth(number).click()
            name = links.nth(number).get_attribute("href")[1:]
            assert in_view(page, name), name

        assert links.count() == 3  # two chapters, and what differs

    def test_finds_by_words_and_by_ids(self, open_page, book):
        """Nobody remembers in which chapter it was."""
        page = open_page(book)

        page.keyboard.press("/")
        page.keyboard.type("last DEATH")
        assert page.locator("#hits a").all_inner_texts() == ["RabbitMQ names the last death"]
        page.keyboard.press("Enter")
        assert page.url.endswith("#test_07_dead_letters.TestRabbitMQ.test_names_the_last_death")

        page.fill("#q", "ack-01")
        assert page.locator("#hits a").all_inner_texts() == ["RabbitMQ counts what is acked"]
        page.fill("#q", "no such words")
        assert (page.locator("#found").inner_text(), page.locator("#hits a").count()) == ("nothing found", 0)

    def test_lands_on_a_deep_link(self, open_page, book):
        """A link in an issue shows the one spec that is meant, opened."""
        page = open_page(f"{book}#{DEEP}")

        assert in_view(page, DEEP)
        assert page.locator(f"[id='{DEEP}'] svg").is_visible()

    def test_reads_with_scripts_off(self, open_page, book):
        """What is hidden until a script runs is hidden from many."""
        page = open_page(book, java_script_enabled=False)

        page.get_by_text("Source and wire").first.click()
        page.get_by_text("The same as text").first.click()
        page.get_by_text("message, 16 bytes").first.click()

        assert page.locator("details pre", has_text="no such customer").first.is_visible()
        assert not page.locator("#search").is_visible()

    def test_prints_without_its_side(self, open_page, book):
        """On paper there is nothing to click."""
        page = open_page(book)

        page.emulate_media(media="print")

        assert not page.locator("aside").is_visible()
        assert page.get_by_text("RabbitMQ names the last death").first.is_visible()

    def test_fits_a_narrow_phone(self, open_page, book):
        """A page that moves sideways cannot be read with a thumb; pictures move within their frames."""
        page = open_page(book, viewport={"width": 320, "height": 640})
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

        assert page.evaluate("document.documentElement.scrollWidth") <= 320

    def test_runs_nothing_that_a_message_brought(self, open_page, tmp_path):
        """The body of a message is shown, and is nothing but shown."""
        nasty = (event("basic.publish", exchange=NASTY, routing_key=NASTY, body=NASTY),)
        file = tmp_path / "nasty.html"
        file.write_text(
            printed(bind([record(spec("is fine", frames=nasty, why=NASTY, reason=NASTY, outcome="failed"))]))
        )

        page = open_page(file.as_uri())
        page.fill("#q", "alert")

        assert page.locator("#hits a").all_inner_texts() == ["RabbitMQ is fine"]
        assert page.evaluate("document.images.length") == 0
        assert page.locator("details pre", has_text=NASTY).count() > 0

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 390])
    def test_is_told_everything_by_ear(self, open_page, book, scheme, width):
        """Contrast, names, order of headings, reach by keyboard: what axe can see of it, it finds in order."""
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="not run: pip install 'rmqspec[book]'"
        )
        page = open_page(book, color_scheme=scheme, viewport={"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

        found = axe.Axe().run(page).response["violations"]

        assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []
