"""The contact sheet as one HTML file that needs nothing beside it: no script, no font, no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image as Pillow

from regionsearch.demonstration.answer_pictures import hit_picture, question_picture
from regionsearch.demonstration.answers import Answer, Found, Part
from regionsearch.demonstration.contact_sheet import STRONGEST
from regionsearch.demonstration.wording import (
    PART_MEANING,
    SheetFacts,
    alt_text,
    badge,
    caption,
    is_good,
    query_alt_text,
    verdict,
)

# Twice what the page shows, for screens with two pixels a point.
PIXEL_RATIO = 2.0
PICTURE_SIZE = (640, 480)

_STYLE = """
:root { color-scheme: light dark; --paper: #f3f4f6; --card: #fff; --well: #e7e9ed; --ink: #181d26;
  --quiet: #59627a; --line: #dde0e6; --accent: #007d6a; --good: #117a42; --missed: #a64d0a;
  --pill: #ffecc4; --pill-ink: #5c3c00; }
@media (prefers-color-scheme: dark) { :root { --paper: #11141a; --card: #1a1f28; --well: #262c38;
  --ink: #eceff4; --quiet: #a3adc2; --line: #2b3240; --accent: #2fd4b8; --good: #5fd897;
  --missed: #ffb27a; --pill: #4a3500; --pill-ink: #ffdc94; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header { max-width: 1560px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 36px; padding-bottom: 20px; }
h1 { margin: 0; font-size: 34px; letter-spacing: -0.02em; }
header p { margin: 4px 0 0; color: var(--quiet); max-width: 90ch; }
.legend { display: flex; gap: 22px; margin-top: 12px; flex-wrap: wrap; }
.legend span::before { content: ""; display: inline-block; width: 18px; height: 12px; margin-right: 8px;
  border-radius: 4px; border: 3px solid currentColor; }
.legend .asked::before { border-color: #ffb000; } .legend .found::before { border-color: #00d6b4; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 20px;
  margin-bottom: 22px; display: grid; gap: 24px; grid-template-columns: minmax(240px, 320px) 1fr; }
@media (max-width: 820px) { article { grid-template-columns: 1fr; } }
figure { margin: 0; }
.well { background: var(--well); border-radius: 12px; overflow: hidden; aspect-ratio: 4 / 3;
  display: grid; place-items: center; position: relative; }
.well img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; display: block; }
.well span { font-size: 26px; line-height: 1.25; padding: 18px; text-align: center; }
h2 { font-size: 17px; font-weight: 600; margin: 8px 0 2px; line-height: 1.35; overflow-wrap: anywhere; }
.pill { display: inline-block; margin-top: 12px; background: var(--pill); color: var(--pill-ink);
  border-radius: 12px; padding: 1px 11px; font-size: 13px; }
.aside { color: var(--quiet); font-size: 13px; margin: 0; overflow-wrap: anywhere; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); }
.line { display: flex; justify-content: space-between; gap: 10px; align-items: baseline; margin-top: 8px; }
.line b { font-weight: 500; overflow-wrap: anywhere; } .line b i { color: var(--quiet); font-style: normal; }
.line strong { font-size: 19px; font-variant-numeric: tabular-nums; }
.bar { height: 6px; border-radius: 3px; background: var(--well); overflow: hidden; margin: 4px 0 6px; }
.bar div { height: 100%; border-radius: 3px; background: var(--accent); }
table { width: 100%; border-collapse: collapse; font-size: 13px; color: var(--quiet); }
th { text-align: left; font-weight: 400; padding: 1px 8px 1px 0; white-space: nowrap; }
td { padding: 1px 0; } td:last-child { text-align: right; padding-left: 8px; white-space: nowrap;
  font-variant-numeric: tabular-nums; } td .bar { margin: 0; } td .bar div { background: var(--quiet); }
td:nth-child(2) { width: 60%; }
.badge { font-size: 13px; font-weight: 600; margin: 4px 0 0; } .good { color: var(--good); }
.missed { color: var(--missed); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
footer { color: var(--quiet); font-size: 13px; max-width: 1560px; margin: 0 auto; padding: 0 28px 40px; }
"""


def contact_sheet_page(answers: Sequence[Answer], facts: SheetFacts) -> str:
    """A complete HTML document, UTF-8 when written; every picture is inside it as a data URI."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Nothing can be fetched, whatever a file name of the user's may hold.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>RegionSearch: {escape(facts.source)}</title><style>{_STYLE}</style></head><body>",
        f"<header><h1>RegionSearch</h1><p>{escape(str(facts))}.</p>",
        '<div class="legend"><span class="asked">what was asked with</span>'
        '<span class="found">matched entity</span></div></header><main>',
        *(_article(answer, number) for number, answer in enumerate(answers, start=1)),
        "</main><footer>",
        "A score is a logistic of the weighted sum of the parts; a part is a cosine in standard deviations "
        "(sd) above what random pairs score. Overlap: pixels that the matched entity and the thing asked "
        "about share, of all pixels of the two. Of two boxes, the second is coral and its match violet. ",
        "; ".join(f"{escape(name)}: {escape(meaning)}" for name, meaning in PART_MEANING.items()),
        ".</footer></body></html>",
    ]
    return "\n".join(parts)


def _article(answer: Answer, number: int) -> str:
    question = answer.question
    outcome = verdict(answer)
    aside = (
        f"{answer.milliseconds:.0f} ms" if outcome is None else f"{outcome} · {answer.milliseconds:.0f} ms"
    )
    hits = "".join(_hit(answer, hit, place) for place, hit in enumerate(answer.found, start=1))
    return (
        f'<article aria-labelledby="question-{number}"><figure>{_query_picture(answer)}'
        f'<figcaption><span class="pill">{escape(question.kind)}</span>'
        f'<h2 id="question-{number}">{escape(caption(question))}</h2>'
        f'<p class="aside">{escape(aside)}</p></figcaption></figure>'
        f"<ol>{hits or '<li>no hits</li>'}</ol></article>"
    )


def _query_picture(answer: Answer) -> str:
    shown = question_picture(answer, PICTURE_SIZE, pixel_ratio=PIXEL_RATIO)
    if shown is None:
        return f'<div class="well"><span>{escape(answer.question.sentence)}</span></div>'
    return _picture(shown, query_alt_text(answer))


def _hit(answer: Answer, hit: Found, place: int) -> str:
    shown = hit_picture(hit, PICTURE_SIZE, pixel_ratio=PIXEL_RATIO)
    mark = badge(hit, answer)
    manner = "good" if is_good(hit, answer) else "missed"
    return (
        f"<li><figure>{_picture(shown, alt_text(hit))}<figcaption>"
        f'<div class="line"><b><i>{place}</i> {escape(hit.image_id)}</b>'
        f'<strong><span class="hidden">score </span>{hit.score:.2f}</strong></div>'
        f"{_bar(hit.score)}<table>{''.join(map(_part, hit.parts))}</table>"
        + (f'<p class="badge {manner}">{escape(mark)}</p>' if mark else "")
        + "</figcaption></figure></li>"
    )


def _part(part: Part) -> str:
    meaning = escape(PART_MEANING.get(part.name, part.name), quote=True)
    return (
        f'<tr title="{meaning}: cosine {part.raw:.3f}, weight {part.weight:.2f}">'
        f'<th scope="row">{escape(part.name)}</th><td>{_bar(part.standardised / STRONGEST)}</td>'
        f"<td>{part.standardised:+.1f} sd</td></tr>"
    )


def _bar(share: float) -> str:
    percent = 100 * min(max(share, 0.0), 1.0)
    return f'<div class="bar" aria-hidden="true"><div style="width:{percent:.0f}%"></div></div>'


def _picture(shown: Pillow.Image, description: str) -> str:
    encoded = io.BytesIO()
    shown.save(encoded, "JPEG", quality=84, optimize=True)
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    alt = escape(description, quote=True)
    return f'<div class="well"><img src="data:image/jpeg;base64,{data}" alt="{alt}"></div>'
