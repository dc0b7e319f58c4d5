"""Where shards are: local disk, or seaweedfs on the same machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Ray runs its workers at nice 15: on a shared machine they would get a smaller share of it than the peers do.
ENV = {"RAY_worker_niceness": "0", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Place:
    """Shards of one corpus in one store: `root` for us, a URL each for webdataset, the environment to reach them."""

    name: str
    root: str
    urls: tuple[str, ...]
    env: dict[str, str]

    @property
    def keys(self) -> list[str]:
        """Names of the shards below `root`."""
        return [Path(url.partition("?")[0]).name for url in self.urls]

    def first(self, shards: int) -> Place:
        """Return the place with its first shards alone."""
        return Place(self.name, self.root, self.urls[:shards], self.env)

    def listed(self, path: Path, values: Sequence[str]) -> str:
        """Write a list for a command to read, and return its path."""
        path.write_text(json.dumps(list(values)))
        return str(path)


@contextmanager
def places(corpora: dict[str, list[Path]], *, s3: bool) -> Iterator[dict[str, list[Place]]]:
    """Yield the places of every corpus: local, and S3 where wanted; the server ends with `with`."""
    local = {name: Place("local", str(paths[0].parent), tuple(map(str, paths)), ENV) for name, paths in corpora.items()}
    if not s3:
        yield {name: [place] for name, place in local.items()}
        return
    from services import S3Server

    with S3Server() as server:
        yield {name: [local[name], _uploaded(server, name, paths)] for name, paths in corpora.items()}


def _uploaded(server: object, name: str, paths: Sequence[Path]) -> Place:
    client, bucket = server.client(), server.bucket  # type: ignore[attr-defined]
    urls = []
    for path in paths:
        key = f"corpora/{name}/{path.name}"
        client.upload_file(str(path), bucket, key)
        address = {"Bucket": bucket, "Key": key}
        urls.append(client.generate_presigned_url("get_object", Params=address, ExpiresIn=86400))
    return Place("s3", f"s3://{bucket}/corpora/{name}", tuple(urls), {**ENV, **server.env})  # type: ignore[attr-defined]
