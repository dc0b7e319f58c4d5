"""The files of a finished dataset, to damage one of them and to ask `verify` what it finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from inline_executor import InlineExecutor

from curation.core.digest import canonical
from curation.core.types import ShardRef
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import begin_repair, dry_run
from curation.curating.verification.repairs import finish_repair as written_down
from curation.curating.verification.verify import checks_of
from curation.ledger.ledger import unit_id
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.store import open_store

DOCUMENT = "snapshots/000003.json"


class Tree:
    """A dataset on local disk, to be damaged. `out` and `scores` are its ledgers."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.scores = root, root / "out", root / "out" / "scores"

    # --- to find things -------------------------------------------------------------------------------------------

    @property
    def document(self) -> dict[str, Any]:
        return json.loads((self.out / DOCUMENT).read_text())

    def named(self, name: str) -> Path:
        """An object that the document names itself."""
        return self.out / self.document[name]["key"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return from_parquet(self.named(name).read_bytes()).to_pylist()

    @property
    def shard(self) -> Path:
        return self.out / self.rows("shards")[0]["key"]

    @property
    def part(self) -> Path:
        return self.out / self.rows("manifest")[0]["key"]

    def part_of(self, number: int) -> Path:
        """A part of the manifest that no later snapshot has."""
        parts = []
        for path in sorted((self.out / "snapshots").glob("*.json")):
            index = self.out / json.loads(path.read_text())["manifest"]["key"]
            parts.append({row["key"] for row in from_parquet(index.read_bytes()).to_pylist()})
        return self.out / min(parts[number - 1] - set().union(*parts[number:]))

    @property
    def record(self) -> Path:
        return self.out / "units" / f"{self.rows('manifest')[0]['unit']}.json"

    @property
    def plan(self) -> Path:
        return self.out / "plans" / f"{self.document['plan']}.json"

    @property
    def page(self) -> Path:
        return self.out / json.loads(self.plan.read_text())["pages"][0]["key"]

    def scored(self, column: str, key: str = "00001.tar") -> Path:
        """The record of a score table."""
        page = from_parquet(self.page.read_bytes(), ["key", "size", "etag"]).to_pylist()
        shard = next(ShardRef(**row) for row in page if row["key"] == key)
        return self.scores / "units" / f"{unit_id(shard, self.document['fingerprints'][column])}.json"

    def table(self, column: str, key: str = "00001.tar") -> Path:
        return self.scores / json.loads(self.scored(column, key).read_text())["data"]["key"]

    # --- to damage them -------------------------------------------------------------------------------------------

    def edit(self, path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_bytes(canonical(value))

    def change(self, **fields: Any) -> None:
        """Fields of the snapshot's document; `a__b` is `a.b`."""

        def set_(value: dict[str, Any]) -> None:
            for name, new in fields.items():
                into, *path = value, *name.split("__")
                for part in path[:-1]:
                    into = into[part]
                into[path[-1]] = new(into[path[-1]]) if callable(new) else new

        self.edit(self.out / DOCUMENT, set_)

    def rewrite(self, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
        """A Parquet object, with consistent hashes."""
        self.replace(path, to_parquet(change(from_parquet(path.read_bytes()))))

    def forge(self, path: Path, data: bytes) -> None:
        """An object under the name that fits its bytes, and all that names it, with nothing left of the old one."""
        ledger = self.scores if self.scores in path.parents else self.out
        unit, _, nonce = path.name.split("-")
        other = path.with_name(f"{unit}-{sha256(data).hexdigest()[:16]}-{nonce}")
        path.unlink()
        other.write_bytes(data)
        old, new = (str(one.relative_to(ledger)) for one in (path, other))
        said = {"key": new, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for document in [*ledger.glob("units/*.json"), *ledger.glob("snapshots/*.json")]:
            value = json.loads(document.read_text())
            if _say(value, old, said):
                document.write_bytes(canonical(value))
        for index in [self.named(name) for name in ("shards", "manifest")] if ledger == self.out else ():
            table = from_parquet(index.read_bytes()) if index.exists() and index != other else None
            rows = table.to_pylist() if table is not None else []
            if sum(_say(row, old, said) for row in rows):
                self.forge(index, to_parquet(pa.Table.from_pylist(rows, table.schema)))

    def forged(self, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
        """A Parquet object, changed and forged."""
        self.forge(path, to_parquet(change(from_parquet(path.read_bytes()))))

    def replace(self, path: Path, data: bytes) -> None:
        """An object of either ledger, and all that names it by its hash."""
        ledger = self.scores if self.scores in path.parents else self.out
        key = str(path.relative_to(ledger))
        path.write_bytes(data)
        said = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for document in [*ledger.glob("units/*.json"), *ledger.glob("snapshots/*.json"), *ledger.glob("plans/*.json")]:
            value = json.loads(document.read_text())
            if _say(value, key, said):
                document.write_bytes(canonical(value))
        for index in {self.named(name) for name in ("shards", "manifest")} - {path} if ledger == self.out else ():
            table = from_parquet(index.read_bytes())
            rows = table.to_pylist()
            if sum(_say(row, key, said) for row in rows):
                self.replace(index, to_parquet(pa.Table.from_pylist(rows, table.schema)))


def _say(value: Any, key: str, said: dict[str, Any]) -> bool:
    """Set hash and size wherever an object is named."""
    found = False
    if isinstance(value, dict):
        if value.get("key") == key and "sha256" in value:
            value.update({name: said[name] for name in said if name in value})
            found = True
        return bool(sum(_say(inner, key, said) for inner in value.values())) or found
    return isinstance(value, list) and bool(sum(_say(inner, key, said) for inner in value))


def found(tree: Tree, rescore: float = 0.0, *, apply: bool = False, accept_loss: bool = False) -> list[Finding]:
    """The findings of `curate verify`, or those of `curate repair --apply`, which repairs.

    In this process: four worker processes a test would cost 20 s. tests/jobs/commands/test_verify.py has real ones.
    """
    out = open_store(str(tree.out))
    repairs = begin_repair(out, 3) if apply else dry_run(out)
    here = InlineExecutor(tree.root / "places")
    work = checks_of(out, _newest(tree), repairs, here, rescore=rescore, accept_loss=accept_loss)
    findings = list(work.findings())
    if apply:
        written_down(repairs, 3, findings, work.lost)
    return findings


def _newest(tree: Tree) -> int:
    return max(int(path.stem) for path in (tree.out / "snapshots").glob("00000?.json"))


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def column(name: str, change: Callable[[list[Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of one column's values."""

    def edit(table: pa.Table) -> pa.Table:
        values = table.column(name).to_pylist()
        change(values)
        at = table.schema.get_field_index(name)
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    return edit


def first(change: Callable[[Any], Any], *, where: Callable[[Any], bool] = lambda value: value is not None) -> Any:
    """Change the first value that fits."""

    def edit(values: list[Any]) -> None:
        at = next(n for n, value in enumerate(values) if where(value))
        values[at] = change(values[at])

    return edit


@dataclass(frozen=True)
class Damage:
    """A damage to plant, and the finding that reports it.

    plant: damages the dataset. object: a part of the finding's object. field: a part of the finding's text. repairable:
    whether a repair restores the dataset; if not, the repair says why. rescore: the share of units to score again.
    """

    plant: Callable[[Tree], Any]
    object: Callable[[Tree], str] | str
    field: str = ""
    repairable: bool = True
    rescore: float = 0.0


def object_of(name: str) -> Callable[[Tree], str]:
    """The location of an object before it is damaged."""
    return lambda tree: getattr(tree, name).name


def named_object(name: str) -> Callable[[Tree], str]:
    return lambda tree: tree.named(name).name


def record_of(column: str, key: str = "00001.tar") -> Callable[[Tree], str]:
    return lambda tree: tree.scored(column, key).name


def doubled(values: pa.Table) -> pa.Table:
    return pa.concat_tables([values, values.slice(0, 1)]).combine_chunks()


def page_edit(change: Callable[[pa.Table], pa.Table]) -> Callable[[Tree], None]:
    return lambda tree: tree.page.write_bytes(to_parquet(change(from_parquet(tree.page.read_bytes()))))


def set_fields(**fields: Any) -> Callable[[Tree], None]:
    return lambda tree: tree.change(**fields)


OTHER_ID = "0" * 64


EVALUATION = f"evaluations/000003-{'e' * 64}.json"
