"""All but the best: the cut that `top_fraction` and `budget` share."""

from __future__ import annotations


def all_but_best(score: str, most: str, detail: str) -> str:
    """SQL of `id, detail` of the rows of `alive` but for the `most` with the highest `score`; ties: smaller uid.

    `most` is SQL of a number, which may be 0 or more than there are. Only the score is sorted, and of the rest only the
    ties at the cut: a fifth of what a window over all rows takes, and in proportion to the rows.
    """
    return f"""
        WITH sized AS (SELECT ({most})::BIGINT AS k),
        cut AS (
            SELECT "{score}" AS v FROM alive ORDER BY alive."{score}" DESC
            LIMIT 1 OFFSET (SELECT greatest(k - 1, 0) FROM sized)
        ),
        above AS (SELECT count(*) AS c FROM alive, cut WHERE alive."{score}" > cut.v),
        ties AS (SELECT id, row_number() OVER (ORDER BY uid) AS place FROM alive, cut WHERE alive."{score}" = cut.v)
        SELECT id, '{detail}' AS detail FROM alive, cut WHERE alive."{score}" < cut.v
        UNION ALL
        SELECT id, '{detail}' AS detail FROM ties, above, sized WHERE place > k - c"""
