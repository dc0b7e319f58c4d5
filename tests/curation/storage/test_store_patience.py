"""How long a store may be away, whatever the call: one budget of seconds, and no key lost or listed twice."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from services import PAGE, BrokenS3, Clock, S3Server, environment, one_line

from curation.core.errors import (
    AccessError,
    LedgerError,
    NotFoundError,
    RecipeError,
    TutelageError,
    UnavailableError,
    UserError,
)
from curation.ledger.documents import PlanDocument, read, read_json
from curation.ledger.ledger import Ledger, read_named
from curation.ledger.uid_lists import read_list
from curation.models.weights import Weights
from curation.recipes.curation_recipe import parse_recipe
from curation.selection.checkpoint import latest_facts
from curation.storage import clients as store_clients
from curation.storage import local_store, object_store, retry
from curation.storage.fsspec_face import StoreFileSystem
from curation.storage.parquet import read_parquet, to_parquet
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(300_001)
KEYS = [f"k{number:03d}" for number in range(95)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[BrokenS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with BrokenS3() as server:
        yield server


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "LISTED", 3)
    monkeypatch.setattr(object_store, "LOST", 5.0)  # some listings of these tests are lost by obstore itself


def store_of(server: BrokenS3, patience: float = 120) -> Store:
    return open_store("s3://bucket/p", StoreOptions(endpoint=server.endpoint, patience=patience))


def put_file(store: Store, path: Path) -> None:
    path.write_bytes(DATA)
    store.put_file("file", path)


CALLS: dict[str, Callable[[Store, Path], object]] = {
    "get": lambda store, path: store.get("there"),
    "range": lambda store, path: store.get_range("there", 5, 9),
    "blocks": lambda store, path: list(store.blocks("there", len(DATA))),
    "head": lambda store, path: store.head("there"),
    "size": lambda store, path: store.size("there"),
    "exists": lambda store, path: store.exists("there"),
    "list": lambda store, path: list(store.list()),
    "put": lambda store, path: store.put("new", DATA),
    "put_file": lambda store, path: put_file(store, path / "f"),
    "create": lambda store, path: store.create("new", DATA),
    "delete": lambda store, path: store.delete("there"),
    "probe": lambda store, path: store.probe(),
}


@pytest.mark.parametrize("trouble", ["busy", "reset"])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_waits_as_long_as_it_is_told(
    server: BrokenS3, clock: Clock, tmp_path: Path, call: str, trouble: str
) -> None:
    server.objects["/bucket/p/there"] = DATA
    back = clock.now + 100
    server.trouble = lambda method, path: trouble if clock.now < back else ""
    CALLS[call](store_of(server), tmp_path)
    assert clock.now >= back
    assert 15 < len(server.requests) < 100  # the pauses grow


@pytest.mark.parametrize("call", CALLS)
def test_every_call_gives_up_when_its_patience_ends(server: BrokenS3, clock: Clock, tmp_path: Path, call: str) -> None:
    server.objects["/bucket/p/there"] = DATA
    server.trouble = lambda method, path: "busy"
    began = clock.now
    with pytest.raises(UnavailableError, match=r"answered 503.*\(tried \d+ times in 7 s\)") as caught:
        CALLS[call](store_of(server, patience=7), tmp_path)
    assert began + 7 <= clock.now < began + 8 + 7 * (call == "probe")  # its object is deleted with a budget of its own
    assert "store.patience" in one_line(caught.value) and caught.value.exit_code == 3


def test_progress_renews_the_budget(server: BrokenS3, clock: Clock) -> None:
    """A body that comes in pieces, with a minute of failures between any two, is read all the same."""
    server.defect, server.cut_at = "cuts", 300_000  # of which 256 KiB are kept
    server.objects["/bucket/p/there"] = DATA * 5
    up = itertools.cycle([True, *[False] * 15])
    server.trouble = lambda method, path: "" if next(up) else "busy"
    began = clock.now
    assert store_of(server).get("there") == DATA * 5
    assert clock.now > began + 180


def test_seconds_of_the_consumer_do_not_count(server: BrokenS3, clock: Clock) -> None:
    server.page = 10
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    turns = itertools.count()
    server.trouble = lambda method, path: "busy" if next(turns) % 2 else ""
    found = []
    for info in store_of(server, patience=20).list():
        clock.sleep(600)
        found.append(info.key)
    assert found == KEYS


@pytest.mark.parametrize("order", ["sorted", "folders first", "random"])
@pytest.mark.parametrize("trouble", ["busy", "reset", "half", "page", "xhtml", "tagged page"])
@pytest.mark.parametrize("seed", range(2))
def test_a_listing_gives_every_key_once(
    server: BrokenS3, trouble: str, order: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    ranks = {"sorted": lambda key: key, "folders first": lambda key: ("/" not in key[2:], key),
             "random": lambda key: random.Random(key).random()}  # fmt: skip
    names = [*KEYS, *(f"{key}/{part}" for key in KEYS[::9] for part in "ab")]
    server.objects = {f"/bucket/p/{key}": b"1" for key in names}
    server.page, server.order = 7, lambda keys: sorted(keys, key=ranks[order])
    server.trouble = lambda method, path: trouble if chance.random() < 0.15 else ""
    found = [info.key for info in store_of(server).list()]
    assert sorted(found) == sorted(names)


def test_the_last_key_may_go_while_it_is_listed(server: BrokenS3) -> None:
    """As `curate gc` does, which deletes what it lists."""
    server.page = 5
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    turns = itertools.count()
    server.trouble = lambda method, path: "reset" if next(turns) % 3 == 2 else ""
    found = []
    for info in store_of(server).list():
        found.append(info.key)
        del server.objects[f"/bucket/p/{info.key}"]
    assert found == KEYS


def test_a_page_instead_of_a_listing_is_not_an_empty_one(server: BrokenS3, clock: Clock) -> None:
    server.objects["/bucket/p/there"] = b"1"
    for trouble in ("page", "xhtml"):
        pages = iter([trouble])
        server.trouble = lambda method, path, pages=pages: next(pages, "")
        assert [info.key for info in store_of(server).list()] == ["there"]
    server.trouble = lambda method, path: "page"
    with pytest.raises(UnavailableError, match="not a store's answer") as caught:
        list(store_of(server).list())
    one_line(caught.value)


def test_an_empty_listing_costs_two_requests_and_a_full_one_one_more(server: BrokenS3) -> None:
    assert list(store_of(server).list()) == [] and len(server.requests) == 2
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    server.page = 10
    list(store_of(server).list())
    assert len(server.requests) == 2 + 10 + 1


@pytest.mark.parametrize("trouble", ["page", "tagged page", "longer", "half", "reset"])
def test_one_wrong_answer_is_neither_an_object_nor_its_absence(server: BrokenS3, trouble: str) -> None:
    server.objects["/bucket/p/there"] = DATA
    store = store_of(server)
    etag = store.head("there").etag
    calls = [lambda: store.get_range("there", 0, len(DATA), etag), lambda: store.get_range("there", 0, len(DATA))]
    for call in [*calls, *([] if trouble == "longer" else [lambda: store.get("there")])]:
        first = iter([trouble])
        server.trouble = lambda method, path, first=first: next(first, "")
        assert call() == DATA
    first = iter([trouble])
    server.trouble = lambda method, path: next(first, "") if trouble == "page" else ""
    assert not store.exists("gone")
    with pytest.raises(NotFoundError):
        store.get("gone")


@pytest.mark.parametrize("trouble", ["flip", "page", "tagged page", "half"])
def test_a_damaged_answer_is_not_another_writers_object(server: BrokenS3, trouble: str) -> None:
    store = store_of(server)
    server.objects["/bucket/p/ours"] = b"ours"
    server.objects["/bucket/p/theirs"] = b"theirs"
    for key, mine in (("ours", True), ("theirs", False)):
        first = iter([trouble])
        server.trouble = lambda method, path, first=first: next(first, "") if method == "GET" else ""
        assert store.create(key, b"ours") is mine


def test_a_part_of_an_upload_that_fails_for_long_ends_it(
    server: BrokenS3, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "MULTIPART", 100_000)
    server.trouble = lambda method, path: "denied" if "upload" in path else ""
    with pytest.raises(AccessError):
        put_file(store_of(server), tmp_path / "f")


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize("trouble", ["denied", "expired"])
def test_credentials_that_expire_are_renewed_once(
    server: BrokenS3, clock: Clock, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(store_clients, "time", clock)
    server.objects["/bucket/p/there"] = DATA
    left = [trouble]
    server.trouble = lambda method, path: left.pop() if left else ""
    with pytest.raises(AccessError):  # of keys without an end nothing else is to be had
        store_of(server).get("there")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    store_clients._CLIENTS.clear()
    store = store_of(server)
    assert store.get("there") == DATA
    for age, raises in ((1, True), (100, False)):
        clock.sleep(age)
        left = [trouble]
        if raises:  # a minute after they were made, they are what they are
            with pytest.raises(AccessError):
                store.get("there")
        else:
            assert store.get("there") == DATA
    left = [trouble, trouble]
    with pytest.raises(AccessError):
        store.get("there")


def test_a_disk_that_is_away_for_a_while(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a directory of NFS: stale handles in the middle of a listing, and of a read."""
    store = open_store(str(tmp_path))
    for key in KEYS:
        store.put(f"{key[:3]}/{key}", key.encode())
    chance, scan, read = random.Random(1), local_store.os.scandir, local_store.os.open

    def shaky(call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if chance.random() < 0.05:
                raise OSError(local_store.errno.ESTALE, "Stale file handle")
            return call(*arguments)

        return called

    left = [f"{key[:3]}/{local_store._TEMPORARY}{key}" for key in KEYS]
    for name in left:
        (tmp_path / name).write_bytes(b"left by a killed put")
    monkeypatch.setattr(local_store.os, "scandir", shaky(scan))
    monkeypatch.setattr(local_store.os, "open", shaky(read))
    for etags in (True, False):
        assert [info.key for info in store.list(etags=etags)] == [f"{key[:3]}/{key}" for key in KEYS]
    assert [info.key for info in store.unfinished()] == left
    assert [store.get(f"{key[:3]}/{key}") for key in KEYS] == [key.encode() for key in KEYS]
    chance.random = lambda: 0.0  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="Stale file handle") as caught:
        store.get("k00/k000")
    one_line(caught.value)


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), 1e9, True])
def test_patience_is_a_number_of_seconds(patience: float) -> None:
    with pytest.raises(UserError, match=r"store\.patience"):
        StoreOptions(patience=patience)


@pytest.mark.s3
def test_a_real_store_that_is_stopped_and_started(tmp_path: Path, fresh_clients: None) -> None:
    with S3Server() as server, environment(server.env):
        store = open_store("s3://tutelage/p")
        for key in KEYS[:12]:
            store.put(key, DATA)
        listing = store.list()
        assert next(listing).key == KEYS[0]
        server.restart()
        assert [info.key for info in listing] == KEYS[1:12]
        assert store.get(KEYS[3]) == DATA and not store.create(KEYS[4], b"other") and store.create("new", b"1")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0", "greater than 0"),
        (".nan", "not a finite"),
        ("1.0e9", "less than or equal to 86400"),
        ("true", "no number"),
    ],
)
def test_a_recipe_says_how_long(given: str, says: str) -> None:
    text = "corpus: /c\noutput: /o\nstore:\n  patience: {}\n"
    assert parse_recipe(text.format(600)).options.patience == 600
    assert parse_recipe("corpus: /c\noutput: /o\n").options.patience == 120
    with pytest.raises(RecipeError, match=f"recipe:4: store.patience.*{says}"):
        parse_recipe(text.format(given))


def _readers(store: Store) -> dict[str, Callable[[], object]]:
    table = pa.table({"uid": ["a" * 32] * 9})
    store.put("named", DATA)
    store.put("table", to_parquet(table, checksums=True))
    store.put("list", b"a" * 32)
    ledger = Ledger(store)
    plan = ledger.plan(
        iter(pa.table({"key": ["k"], "size": [1], "etag": ["e"]}).to_batches()),
        {"corpus": {"root": "/c", "patterns": ["*"]}, "fingerprints": {}},
    )
    weights = Weights(store.location("named"), sha256(DATA).hexdigest())

    def fetched() -> bytes:
        data = weights.fetch(store.options).read_bytes()
        weights.fetch(store.options).unlink()
        return data

    return {
        "named": lambda: read_named(store, "named", sha256(DATA).hexdigest(), "") == DATA,
        "table": lambda: read_parquet(store, "table", "") == table,
        "list": lambda: read_list("keep", store.location("list"), store.options).uids.to_pylist() == ["a" * 32],
        "plan": lambda: ledger.open_plan(plan.id).id == plan.id,
        "page": lambda: plan.page(0)[0].key == "k",
        "weights": lambda: fetched() == DATA,
    }


@pytest.mark.parametrize("name", ["named", "table", "list", "plan", "page", "weights"])
@pytest.mark.parametrize("trouble", ["flip", "page", "tagged page", "half"])
def test_one_bad_read_is_not_damage(server: BrokenS3, name: str, trouble: str) -> None:
    read = _readers(store_of(server))[name]
    first = iter([trouble])
    server.trouble = lambda method, path: next(first, "") if method == "GET" else ""
    assert read()
    server.trouble = lambda method, path: "flip" if method == "GET" else ""
    before = len(server.requests)
    with pytest.raises(TutelageError) as caught:
        read()
    one_line(caught.value)
    assert len(server.requests) - before <= 4


def test_a_web_page_is_waited_out_but_not_for_ever(server: BrokenS3, clock: Clock) -> None:
    store, began = store_of(server), clock.now
    store.put("record", PAGE)
    with pytest.raises(LedgerError, match="not JSON"):
        read(store, "record", PlanDocument, "")
    assert 1 < clock.now - began < 10


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_without_end_in_a_document(tmp_path: Path, digits: int) -> None:
    store = open_store(str(tmp_path))
    store.put("d", b'{"pages": [], "units": 0, "bytes": 0, "more": %s, "corpus": {}}' % (b"9" * digits))
    for reader in (read, read_json):
        with suppress(LedgerError):
            reader(store, "d", PlanDocument, "")
    store.put("checkpoints/000000001.safetensors", (16).to_bytes(8, "little") + b'{"a":' + b"9" * 10_000 + b"}")
    assert latest_facts(store) is None
    store.put("checkpoints/index.json", b"9" * 5000)
    assert latest_facts(store) is None


def test_consumers_wait_as_long(server: BrokenS3) -> None:
    """Through the face of fsspec, whose requests obstore itself repeats, in real seconds."""
    server.objects["/bucket/p/there"] = DATA
    turns = itertools.count(1)
    server.trouble = lambda method, path: "busy" if next(turns) % 4 else ""
    assert StoreFileSystem(store_of(server)).cat_file("there") == DATA
    assert len(server.requests) >= 4


@pytest.mark.s3
def test_a_web_page_that_somebody_stored_is_content(s3_url: str) -> None:
    """Real stores say `text/html` of it, by its bytes or by what its uploader said: an error page that was kept as a
    shard quarantines that shard, and must not be waited for."""
    store = open_store(s3_url, StoreOptions(patience=5))
    store.put("90000.tar", PAGE)
    (info,) = store.list()
    assert store.get("90000.tar") == PAGE
    assert store.get_range("90000.tar", 2, 7, info.etag) == PAGE[2:9]
    assert b"".join(store.blocks("90000.tar", info.size, info.etag)) == PAGE
    assert store.stats.retries == 0


def test_a_listing_that_obstore_loses_is_started_again(server: BrokenS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen with obstore 0.12: no request was under way, so no deadline ended the wait."""
    import obstore

    lost, listed = [threading.Event()], obstore.list

    def listing(*args: object, **options: object) -> object:
        if not lost:
            return listed(*args, **options)
        event = lost.pop()
        return iter(lambda: event.wait(600), True)

    server.objects["/bucket/p/there"] = b"1"
    monkeypatch.setattr(object_store, "LOST", 0.1)
    monkeypatch.setattr(obstore, "list", listing)
    store = store_of(server)
    assert [info.key for info in store.list()] == ["there"] and store.stats.retries >= 1
