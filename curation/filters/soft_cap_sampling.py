"""Draws by score, with repeats: a good sample comes several times, but each time less likely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from curation.core.errors import RecipeError
from curation.core.ranges import check_count, check_seed
from curation.filters.draw import draw

if TYPE_CHECKING:
    import duckdb

LARGEST = 1e6  # gain and penalty, so that no product with a score is infinite
MOST = 1000  # draws of one sample: each is a pass, of some 5 ms at least
# Bucket of a time, by its logarithm: 64 for a factor of e; beyond e^1024 ever fewer, so that half a million are all.
BUCKET = "floor(64 * (least(t, 1024) + 64 * ln(greatest(t / 1024, 1))))"
TABLE = "soft_cap_sampling"


@dataclass(frozen=True, kw_only=True)
class SoftCapSampling:
    """Draw `draws` times, with repeats, by score: what is drawn stays, and weighs how often it was drawn.

    Each draw takes a sample with a probability in proportion to exp(gain * score - penalty * times drawn before): the
    best come several times, and none takes over. Without `draws`, as many as samples reach the filter. A score that is
    1 / `gain` higher is e times as likely: 1 suits the logarithm of a probability, as FLYT's score is; a cosine wants
    more. `gain` is from -1,000,000 to 1,000,000. A negative one prefers low scores: right for a loss, of which less is
    better; by a score of which more is better, it draws the worst samples. `gain: 0` draws uniformly.
    A sample that was drawn k times is as likely as another whose score is k * penalty / gain lower and that was never
    drawn; `penalty: 0` draws with replacement.
    Drawing is a race: every sample has a clock, which rings E / exp(gain * score - penalty * k) after its k-th ring
    (or the start), with E exponential, a hash of seed, uid and k. Such waits have no memory, so the first rings of all
    are the draws, exactly; they are the same everywhere, more draws repeat all that fewer did, and further samples only
    take some of a given number away. The published code draws 100,000 at once, all different, before it penalizes.
    What stays is in the shards once; the number of its draws is its `weight` in the manifest, by which `curate learn`,
    `curate evaluate` and `snapshot.torch(weighted=True)` train. Plain webdataset hands every sample out once. Last in
    the list: the draws of what a later filter drops are lost.
    Cost: 1.3 us a ring, of which there are one a sample and 1 to 3 a draw; a pass for each draw of the sample that is
    drawn most, over those drawn so often. Some 1,000 draws of one sample, or more, are refused. Out of core.
    Source: Soft Cap Sampling of FLYT (2503.08805), with a penalty of 0.15 in its published code (examples.ipynb).
    Example: soft_cap_sampling: {score: dfn, gain: 20}
    """

    score: str
    draws: int | None = None
    gain: float = 1.0
    penalty: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("draws", self.draws, "not given, they are as many as samples reach the filter", least=1)
        check_seed(self.seed)
        if not abs(self.gain) <= LARGEST:
            raise ValueError(f"gain is from {-LARGEST:,.0f} (low scores are preferred, as of a loss) to {LARGEST:,.0f}")
        if not 0 <= self.penalty <= LARGEST:
            raise ValueError(f"penalty is from 0 (draws with replacement) to {LARGEST:,.0f}")

    def columns(self) -> Sequence[str]:
        return (self.score,)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of the samples that are drawn: `id`, and `weight`, how often.

        A pass makes the next ring of every sample whose last one may be among the first `draws`. Those end in a bucket
        of time that is found by counting, and that only comes nearer as more rings are known.
        """
        make = "CREATE OR REPLACE TEMP TABLE"
        draws, top = self._sizes(db)
        db.execute(f"{make} {TABLE}_rings (id BIGINT, t DOUBLE)")
        db.execute(f"{make} {TABLE}_last AS {self._first(top)}")
        counts: Counter[float] = Counter()
        end, rest, early = inf, 0, _early(inf)
        for drawn in range(1, MOST + 2):
            rung = dict(db.execute(f"SELECT {BUCKET}, count(*) {early} GROUP BY 1").fetchall())
            if not rung:
                break
            db.execute(f"INSERT INTO {TABLE}_rings SELECT id, t {early}")
            counts.update(rung)
            end, rest = _bucket_of(draws, counts)
            early = _early(end)
            db.execute(f"{make} {TABLE}_next AS {self._again(drawn, early)}")
            db.execute(f"DROP TABLE {TABLE}_last; ALTER TABLE {TABLE}_next RENAME TO {TABLE}_last")
        else:
            raise _too_often()
        db.execute(f"""
            {make} {TABLE} AS SELECT id, count(*) AS weight FROM (
                SELECT id FROM {TABLE}_rings WHERE {BUCKET} < '{end}'::DOUBLE
                UNION ALL (
                    SELECT id FROM {TABLE}_rings JOIN (SELECT id, uid FROM alive) USING (id)
                    WHERE {BUCKET} = '{end}'::DOUBLE ORDER BY t, uid LIMIT {rest}
                )
            ) GROUP BY id""")
        db.execute(f"DROP TABLE {TABLE}_rings; DROP TABLE {TABLE}_last")

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM alive ANTI JOIN {TABLE} USING (id)"

    def weighs(self) -> str | None:
        return f"SELECT id, weight FROM {TABLE}"

    def _sizes(self, db: duckdb.DuckDBPyConnection) -> tuple[int, float]:
        """How many draws, and the highest logit."""
        ((samples, top),) = db.execute(f"SELECT count(*), coalesce(max({self._logit}), 0) FROM alive").fetchall()
        draws = self.draws or samples
        if draws > MOST * samples > 0:
            raise _too_often()
        return draws, top

    def _first(self, top: float) -> str:
        """SQL of `id, uid, x, t`: each sample's logit, and the logarithm of the time at which it rings first.

        Logits are told from the highest: those that matter are small, whatever the score's scale, and lose no digits.
        """
        logits = f"SELECT id, uid, {self._logit} - {top!r}::DOUBLE AS x FROM alive"
        return f"SELECT id, uid, x, {self._wait(0)} - x AS t FROM ({logits})"

    def _again(self, drawn: int, of: str) -> str:
        """The same with the next ring of samples that rang so many times: old time and wait, added as logarithms."""
        wait = f"{self._wait(drawn)} - x + {self.penalty * drawn!r}::DOUBLE"
        sums = "greatest(t, w) + ln(1 + exp(-abs(t - w)))"
        return f"SELECT id, uid, x, {sums} AS t FROM (SELECT id, uid, x, t, {wait} AS w {of})"

    def _wait(self, drawn: int) -> str:
        """SQL of the logarithm of E. As logarithms, times of any scores fit a double; of 2^53 draws one is 0."""
        return f"ln(-ln(greatest({draw(self.seed, f'{TABLE} {self.score} {drawn}')}, {2**-54!r})))"

    @property
    def _logit(self) -> str:
        return f'{self.gain!r}::DOUBLE * "{self.score}"'


def _too_often() -> RecipeError:
    fix = "fewer draws, a smaller gain or a larger penalty"
    return RecipeError(f"soft_cap_sampling would draw one sample some {MOST:,} times or more", fix=fix)


def _early(end: float) -> str:
    """SQL of the samples whose last ring is not after the bucket `end`."""
    return f"FROM {TABLE}_last WHERE {BUCKET} <= '{end}'::DOUBLE"


def _bucket_of(nth: int, counts: Mapping[float, int]) -> tuple[float, int]:
    """The bucket in which the nth ring is, and which of its own it is; where there are fewer rings, no bucket's end."""
    before = 0
    for bucket in sorted(counts):
        if before + counts[bucket] >= nth:
            return bucket, nth - before
        before += counts[bucket]
    return inf, 0
