"""The page of `curate what-if --html`: one file, without scripts, fonts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from curation.core.printable import printable
from jobs.pages.frame import document

if TYPE_CHECKING:
    from curation.curating.what_if import WhatIfAnswer


def page(recipe: str, answers: Sequence[WhatIfAnswer], unscored: int, look: Any = None, *, unreadable: int = 0) -> str:
    """The whole page. `look`: how the samples of the largest groups look (`groups_page.Look`)."""
    parts = [f"<h1>What if: <code>{escape(recipe)}</code></h1>"]
    if unscored:
        parts.append(f"<p>{unscored:,} shards have not been scored and are left out.</p>")
    if unreadable:
        parts.append(f"<p>{unreadable:,} shards are set aside, since the store refuses them.</p>")
    parts.append(_yields(answers))
    for answer in answers:
        parts += [f"<h2><code>{escape(answer.setting)}</code></h2>"]
        parts += [f'<p class="drop">curate run would make no snapshot: {escape(why)}</p>' for why in answer.refused]
        parts += [_steps(answer), _shifts(answer), _near(answer), _groups(answer, look)]
    return document("what if", "\n".join(parts))


def _yields(answers: Sequence[WhatIfAnswer]) -> str:
    rows = []
    for answer in answers:
        kept, seen = answer.samples["kept"], max(1, answer.samples["seen"])
        cells = ["", "", ""]
        if found := answer.overlap:
            cells = [f"{found['entering']:,}", f"{found['leaving']:,}", f"{found['jaccard']:.1%}"]
        rows.append([f"<code>{escape(answer.setting)}</code>", f"{kept:,}", _bar(kept / seen), *cells])
    return _table(["setting", "kept", "yield", "entering", "leaving", "overlap"], rows)


def _steps(answer: WhatIfAnswer) -> str:
    rows = [[escape(step.filter), f"{step.reached:,}", f"{step.kept:,}", _bar(step.rate)] for step in answer.steps]
    return _table(["filter", "reached by", "kept", "keep rate"], rows)


def _shifts(answer: WhatIfAnswer) -> str:
    parts = []
    for name, groups in answer.shifts.items():
        rows = [[escape(str(group["group"])), _bar(group["of_all"], "all"), _bar(group["of_kept"])] for group in groups]
        parts.append(_table([escape(name), "of all", "of the kept"], rows))
    return "\n".join(parts)


def _near(answer: WhatIfAnswer) -> str:
    parts = []
    for name, rows in answer.near.items():
        cells = [
            [
                f"{row['score']:.4f}",
                "kept" if row["kept"] else '<span class="drop">dropped</span>',
                escape(printable((row["caption"] or "")[:200])),
                f"<code>{escape(row['uid'])}</code>",
            ]
            for row in rows
        ]
        parts.append(_table([f"near the limit of {escape(name)}", "", "caption", "uid"], cells))
    return "\n".join(parts)


def _groups(answer: WhatIfAnswer, look: Any) -> str:
    from jobs.pages.groups import section

    if look is None or not answer.groups:
        return ""
    groups = [group.to_json() for group in answer.groups]
    return f"<h3>The largest groups of duplicates</h3>\n{section(groups, answer.samples['seen'], look)}"


def _bar(share: float, kind: str = "") -> str:
    return f'<span class="bar {kind}" style="width:{12 * share:.2f}rem"></span> {share:.1%}'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'
