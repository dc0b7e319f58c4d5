"""The review page in a real Chromium, driven by keyboard; captions and labels are hostile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import picture
from chromium import browser, needs_chromium
from review_queues import CLASSES, make_queue
from running import start
from services import wait_until

from curation.review.queue import Queue
from curation.review.status import status_of
from curation.review.verification import verify_queue

HOSTILE = {
    0: {"caption": "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"},
    1: {"caption": "safe \u202egpj.txt\u202c \u05e9\u05dc\u05d5\u05dd", "image": picture(1, "jpg", 24)[:200]},
    2: {"caption": "<b>" + "w" * 10_000, "label": "<img src=x onerror=alert(1)>"},
}

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return make_queue(tmp_path, 8, changes=HOSTILE)


@pytest.fixture
def page(tmp_path: Path, queue: Queue) -> Iterator[Any]:
    """A browser on the page of a server for the queue."""
    server = start("review", "serve", str(tmp_path / "queue"), "--port", "0", log=tmp_path / "log")
    try:
        wait_until(lambda: "review page" in (tmp_path / "log").read_text(), "the server")
        with browser(tmp_path / "chromium") as found:
            found.get((tmp_path / "log").read_text().split("review page: ")[1].split()[0])
            yield found
    finally:
        server.terminate()
        server.wait(60)


def test_a_reviewer_with_a_keyboard(page: Any, queue: Queue) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def text(name: str) -> str:
        found: str = page.find_element(By.ID, name).get_attribute("textContent")
        return found

    def press(*keys: str) -> None:
        for key in keys:
            page.switch_to.active_element.send_keys(key)

    def shown(item: int) -> None:
        place = page.find_element(By.TAG_NAME, "body")
        wait_until(lambda: place.get_attribute("data-item") == str(item), f"item {item}")

    def stored(n: int) -> None:
        place = page.find_element(By.TAG_NAME, "body")
        wait_until(lambda: place.get_attribute("data-stored") == str(n), f"{n} stored answers")

    wait_until(lambda: page.switch_to.active_element.get_attribute("id") == "name", "the form")
    press("Ann", Keys.ENTER)
    shown(0)
    assert text("caption") == HOSTILE[0]["caption"] and text("current") == "cat"
    picture = page.find_element(By.ID, "picture")
    wait_until(lambda: picture.get_property("naturalWidth") == 24, "the picture")
    press("1")  # cat: confirms
    shown(1)
    assert "\\u202egpj.txt" in text("caption") and "\u202e" not in text("caption")
    wait_until(lambda: "image_" in text("no-picture"), "why there is no picture")
    press(" ")  # can't tell
    shown(2)
    assert text("current") == HOSTILE[2]["label"] and text("caption").startswith("<b>www")
    box = page.find_element(By.ID, "caption").rect
    assert box["height"] < 200 and box["width"] < 1280, "a long caption scrolls in its box"
    press("3")  # owl
    shown(3)
    press(Keys.BACKSPACE)
    shown(2)
    press("2")  # dog, instead
    shown(3)
    press("/", "ow", Keys.ENTER)  # owl, by its name
    shown(4)
    stored(6)
    votes = {item: sorted((one.n, one.record.meaning) for one in queue.answers_of(item)) for item in range(5)}
    assert votes == {
        0: [(1, ("label", "cat"))],
        1: [(1, ("cannot_tell", None))],
        2: [(1, ("label", "owl")), (2, ("undo", None)), (3, ("label", "dog"))],
        3: [(1, ("label", "owl"))],
        4: [],
    }
    for item, key in enumerate("2312", 4):  # a key that is pressed before its item is shown does nothing
        shown(item)
        press(key)
    wait_until(lambda: "No item is left" in text("state"), "the end")
    stored(10)
    assert page.title == "Label review"
    errors = [entry["message"] for entry in page.get_log("browser") if "/pictures/1" not in entry["message"]]
    assert errors == [], "no script of a caption ran, and the policy had nothing to refuse"
    status = status_of(queue)
    assert status.spent == 8 and status.refused == 1 and status.reviewers == {"ann": 8}
    assert {finding.reason for finding in verify_queue(queue, pictures=False).findings} <= {"unknown_class"} | {
        finding.reason for finding in verify_queue(queue).findings if finding.item == 1
    }
    assert len(CLASSES) == 3
