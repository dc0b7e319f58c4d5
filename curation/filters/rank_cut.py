"""Cut at a rank of a score, shared by `top_fraction`, `budget` and `doubtful_labels`."""

from __future__ import annotations


def below_rank(score: str, most: str, detail: str, rows: str = "alive") -> str:
    """SQL that selects `id, detail` of the rows below the `most` highest scores; ties go to the smaller uid.

    `rows` is a view with `id`, `uid` and the score. `most` is SQL of a number, from 0 to any. Only the score is sorted,
    and beyond it only the ties at the cut: a fifth of the time of a window over all rows.
    """
    return f"""
        WITH sized AS (SELECT ({most})::BIGINT AS k),
        cut AS (
            SELECT "{score}" AS v FROM {rows} ORDER BY {rows}."{score}" DESC
            LIMIT 1 OFFSET (SELECT greatest(k - 1, 0) FROM sized)
        ),
        above AS (SELECT count(*) AS c FROM {rows}, cut WHERE {rows}."{score}" > cut.v),
        ties AS (SELECT id, row_number() OVER (ORDER BY uid) AS place FROM {rows}, cut WHERE {rows}."{score}" = cut.v)
        SELECT id, '{detail}' AS detail FROM {rows}, cut WHERE {rows}."{score}" < cut.v
        UNION ALL
        SELECT id, '{detail}' AS detail FROM ties, above, sized WHERE place > k - c"""
