"""The page of a report: hostile text, bounded pictures, its words, its curve, and a real Chromium in light and dark."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from builders import picture
from chromium import browser, needs_chromium
from PIL import Image
from review_queues import answer, make_queue

from curation.annotators.true_labels import TrueLabels
from curation.review.answer_curve import AnswerCurve, CurvePoint
from curation.review.queue import Queue
from curation.review.report import report_of
from jobs.pages.review_report import APART, HEIGHT, WIDTH, draw, page, pictures_of
from jobs.pages.sample_pictures import SIDE

EVIL = """</title></svg><script>document.title='hacked'</script><img src=x onerror="document.title='hacked'">"""
CLASSES = ("cat", "dog", EVIL)
WORDS = "simulated annotators"
LINES = {"h1", "h2", "p", "li", "tr", "dt", "dd", "figcaption", "caption", "summary", "title", "desc"}


class Page(HTMLParser):
    """The elements of a page, and the text of each of its lines; texts inside a drawing are labels of its axes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[str] = []
        self.open: list[tuple[str, list[str]]] = []
        self.text, self.styles = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in LINES | {"style", "text"}:
            self.open.append((tag, []))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            _, parts = self.open.pop()
            if tag in LINES:
                self.lines.append(" ".join("".join(parts).split()))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open:
            self.open[-1][1].append(data)


def noise(side: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)).save(out, "png")
    return out.getvalue()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Changed items with hostile captions and labels, a damaged picture, and a large one."""
    changes = {
        0: {"label": EVIL, "caption": EVIL},
        1: {"image": picture(1, "jpg", 24)[:200], "caption": "safe \u202egpj.txt"},
        3: {"image": noise(320), "caption": "<b>" + "w" * 9000},
    }
    found = make_queue(tmp_path, 9, classes=CLASSES, changes={n: {"caption": "a thing"} for n in range(9)} | changes)
    for n in (1, 2):
        for item in range(6):
            answer(found, item, f"simulated-{n}", EVIL if item else "cat")
    answer(found, 7, "simulated-1", "?")
    found.store.put("answers/00000/00000008/simulated-1-1.json", EVIL.encode())
    return found


def made(queue: Queue) -> str:
    uids = queue.items.column("uid").to_pylist()
    report = report_of(queue, TrueLabels(dict.fromkeys(uids[:8], "cat"), {EVIL: 1}))
    return page(report, pictures_of(queue, report))


def test_hostile_text_stays_text(queue: Queue) -> None:
    text = made(queue)
    found = Page(text)
    assert "<script" not in text and "\u202e" not in text and "\\u202egpj.txt" in found.text
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert found.text.count("<script>") >= 8, "captions, labels, classes and reasons are shown as they are"
    assert max(map(len, found.lines)) < 600, "no caption fills the page"


def test_it_loads_nothing(queue: Queue) -> None:
    text = made(queue)
    sources = [attributes["src"] or "" for tag, attributes in Page(text).tags if "src" in attributes]
    assert len(sources) == 5 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in text and "href" not in text and "@import" not in text and "default-src 'none'" in text


def test_pictures_are_bounded(queue: Queue) -> None:
    pictures = pictures_of(queue, report_of(queue))
    assert sorted(pictures) == [0, 1, 2, 3, 4, 5]
    assert pictures[1].uri == "" and pictures[1].problem.startswith("image_")
    assert max(len(one.uri) for one in pictures.values()) < 4 / 3 * SIDE * SIDE * 3 * 1.1


def test_a_shard_that_is_gone_is_said(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "corpus/00000.tar").unlink()
    report = report_of(queue)
    assert "no picture: missing_sample" in page(report, pictures_of(queue, report))


def test_every_line_with_a_figure_names_simulated_annotators(queue: Queue) -> None:
    texts = [line.replace(EVIL, "").replace("\\u202e", "") for line in Page(made(queue)).lines]
    lines = [line for line in texts if any(map(str.isdigit, line))]
    assert len(lines) > 40
    assert [line for line in lines if WORDS not in line] == []


def test_people_need_no_words(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    for reviewer in ("ann", "bob"):
        answer(queue, 1, reviewer, "owl")
    report = report_of(queue)
    text = page(report, pictures_of(queue, report))
    assert WORDS not in text and "polyline" not in text, "without truth there is no curve"
    assert "answers a changed label" in text


def test_a_screen_reader_can_read_it(queue: Queue) -> None:
    tags = Page(made(queue)).tags
    heads = [attributes for tag, attributes in tags if tag == "th"]
    assert len(heads) > 20 and {attributes["scope"] for attributes in heads} == {"col", "row"}
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags) == 4
    assert all(len(attributes["alt"] or "") > 20 for tag, attributes in tags if tag == "img")
    (drawing,) = [attributes for tag, attributes in tags if tag == "svg"]
    assert drawing["role"] == "img" and drawing["aria-labelledby"] == "curve-title curve-text"
    levels = [int(tag[1]) for tag, _ in tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and set(levels[1:]) == {2}


@pytest.mark.parametrize(
    ("correct", "slope"), [([5], None), ([0, 0], 0.0), ([3, 9, 20], 0.5), ([100_000, 100_001], 1.0), ([9, 2], -1.0)]
)
def test_a_curve_fits_its_picture(correct: list[int], slope: float | None) -> None:
    points = [
        CurvePoint(n, value, None if slope is None else correct[0] + slope * n) for n, value in enumerate(correct)
    ]
    found = draw(AnswerCurve(known=10, order="rank", slope=slope, points=points))
    for place in " ".join([found.correct, found.random]).split():
        across, up = map(float, place.split(","))
        assert 0 <= across <= WIDTH and 0 <= up <= HEIGHT
    numbers = [tick.number for tick in found.y]
    assert 2 <= len(numbers) <= 7 and numbers == sorted(set(numbers))
    assert numbers[0] <= min(correct) and numbers[-1] >= max(correct)
    assert bool(found.random) == (slope is not None)
    if found.random:
        assert abs(found.ends[0] - found.ends[1]) >= APART - 1e-6


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(queue: Queue, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    (tmp_path / "report.html").write_text(made(queue), encoding="utf-8")
    with browser(tmp_path / "chromium") as found:
        grounds = []
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            found.get((tmp_path / "report.html").as_uri())
            grounds.append(found.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
        assert len(set(grounds)) == 2
        assert found.title == "Label review report"
        widths = [one.get_property("naturalWidth") for one in found.find_elements(By.TAG_NAME, "img")]
        assert len(widths) == 5 and all(widths) and max(widths) == SIDE
        drawing = found.find_element(By.TAG_NAME, "svg").rect
        assert drawing["width"] > 400 and drawing["height"] > 150
        assert found.find_element(By.CLASS_NAME, "correct").rect["width"] > 0
        for width in (1280, 400):
            found.set_window_size(width, 900)
            inside, outside = (
                found.execute_script(f"return document.documentElement.{name}")
                for name in ("scrollWidth", "clientWidth")
            )
            assert inside <= outside, f"the page does not scroll sideways at {width} pixels"
        assert [entry["message"] for entry in found.get_log("browser")] == []
