"""Draws by score with repetition: a good sample is drawn several times, each time with a lower probability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from curation.core.errors import RecipeError
from curation.core.ranges import check_count, check_seed
from curation.filters.hash_uniform import hash_uniform

if TYPE_CHECKING:
    import duckdb

MAX_GAIN = 1e6  # limit of gain and penalty, so that no product with a score is infinite
MOST = 1000  # draws of one sample: each is a pass of at least 5 ms
# Bucket of a time by its logarithm: 64 buckets for a factor of e, fewer beyond e^1024, at most half a million in all.
BUCKET = "floor(64 * (least(t, 1024) + 64 * ln(greatest(t / 1024, 1))))"
TABLE = "soft_cap_sampling"


@dataclass(frozen=True, kw_only=True)
class SoftCapSampling:
    """Draw `draws` times by score, with repetition; keep the drawn samples, with the number of draws as their weight.

    Each draw selects a sample with a probability proportional to exp(gain * score - penalty * number of its earlier
    draws): the best samples are drawn several times, and none dominates. `draws` defaults to the number of samples that
    reach the filter.
    `gain`, from -1,000,000 to 1,000,000: a score that is 1 / `gain` higher is e times as likely. 1 suits the logarithm
    of a probability, which FLYT's score is; a cosine needs more. A negative gain prefers low scores, which is right for
    a loss; for a score of which higher is better it draws the worst samples. `gain: 0` draws uniformly.
    `penalty`: a sample that was drawn k times is as likely as an undrawn one whose score is k * penalty / gain lower.
    `penalty: 0` draws with replacement.
    A kept sample is in the shards once. The number of its draws is its `weight` in the manifest, by which `curate
    learn`, `curate evaluate` and `snapshot.torch(weighted=True)` train; plain webdataset returns every sample once. Put
    this filter last: the draws of samples that a later filter drops are lost.
    Method: every sample has a clock, whose next ring comes E / exp(gain * score - penalty * k) after its k-th ring (or
    the start), where E is exponential, a hash of seed, uid and k. Exponential waits have no memory, so the first
    `draws` rings are exactly the draws. They are the same on every machine, more draws contain fewer draws, and
    additional samples only replace some draws. The published code draws 100,000 different samples at once before it
    penalises.
    Cost: 1.3 us a ring, with one ring a sample and 1 to 3 a draw; one pass for each draw of the most drawn sample. A
    run that would draw one sample about 1,000 times or more is refused. Out of core.
    Source: Soft Cap Sampling of FLYT (2503.08805), with a penalty of 0.15 in its published code (examples.ipynb).
    Example: soft_cap_sampling: {score: dfn, gain: 20}
    """

    score: str
    draws: int | None = None
    gain: float = 1.0
    penalty: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("draws", self.draws, "it defaults to the number of samples that reach the filter", least=1)
        check_seed(self.seed)
        if not abs(self.gain) <= MAX_GAIN:
            limits = f"from {-MAX_GAIN:,.0f} (prefers low scores, as for a loss) to {MAX_GAIN:,.0f}"
            raise ValueError(f"gain is {self.gain}, but must be {limits}")
        if not 0 <= self.penalty <= MAX_GAIN:
            limits = f"from 0 (draws with replacement) to {MAX_GAIN:,.0f}"
            raise ValueError(f"penalty is {self.penalty}, but must be {limits}")

    def columns(self) -> Sequence[str]:
        return (self.score,)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of drawn samples: `id`, and `weight`, the number of draws.

        Each pass computes the next ring of every sample whose last ring may be among the first `draws`. Counting finds
        the bucket of time in which these end; it only moves closer as more rings are known.
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
            raise _too_many_draws()
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
        """Number of draws, and the highest logit."""
        ((samples, top),) = db.execute(f"SELECT count(*), coalesce(max({self._logit}), 0) FROM alive").fetchall()
        draws = self.draws or samples
        if draws > MOST * samples > 0:
            raise _too_many_draws()
        return draws, top

    def _first(self, top: float) -> str:
        """SQL of `id, uid, x, t`: the logit of each sample, and the logarithm of the time of its first ring.

        Logits are relative to the highest, so that those that matter are small on any scale and lose no digits.
        """
        logits = f"SELECT id, uid, {self._logit} - {top!r}::DOUBLE AS x FROM alive"
        return f"SELECT id, uid, x, {self._wait(0)} - x AS t FROM ({logits})"

    def _again(self, drawn: int, of: str) -> str:
        """SQL of the same columns for the next ring of samples that rang `drawn` times: time and wait added as logs."""
        wait = f"{self._wait(drawn)} - x + {self.penalty * drawn!r}::DOUBLE"
        sums = "greatest(t, w) + ln(1 + exp(-abs(t - w)))"
        return f"SELECT id, uid, x, {sums} AS t FROM (SELECT id, uid, x, t, {wait} AS w {of})"

    def _wait(self, drawn: int) -> str:
        """SQL of log E. As logarithms, all times fit a double. One draw in 2^53 is 0, hence the lower bound."""
        return f"ln(-ln(greatest({hash_uniform(self.seed, f'{TABLE} {self.score} {drawn}')}, {2**-54!r})))"

    @property
    def _logit(self) -> str:
        return f'{self.gain!r}::DOUBLE * "{self.score}"'


def _too_many_draws() -> RecipeError:
    fix = "set fewer draws, a smaller gain or a larger penalty"
    return RecipeError(f"soft_cap_sampling would draw one sample about {MOST:,} times or more", fix=fix)


def _early(end: float) -> str:
    """SQL of the samples whose last ring is in bucket `end` or an earlier one."""
    return f"FROM {TABLE}_last WHERE {BUCKET} <= '{end}'::DOUBLE"


def _bucket_of(nth: int, counts: Mapping[float, int]) -> tuple[float, int]:
    """Bucket of the nth ring, and its rank within the bucket; (inf, 0) where there are fewer rings."""
    before = 0
    for bucket in sorted(counts):
        if before + counts[bucket] >= nth:
            return bucket, nth - before
        before += counts[bucket]
    return inf, 0
