"""HTML from text that nobody trusts: cleaned, escaped, in one file, without script.

Invariant: `Html` is made here alone, by `text` and `element`, so that whatever reaches a page stands there as text. The
page's policy forbids scripts, and every style but the one written here, by its hash. Pure.
"""

import base64
import hashlib
import html
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest
from typing import Final, NewType

from engine.transcript import clean

Html = NewType("Html", str)

MAX_CHARS: Final = 20_000
"""What is longer is cut, and says so: a page is for reading."""
NOTICE: Final = "Research use, synthetic people. Nothing here is medical advice; not for anyone in crisis."
NONE: Final = Html("")
LONG_CHARS: Final = 60
"""A cell with more is read, not looked at: it may break its words, and its column stays wide enough."""
VOID: Final = frozenset({"meta"})
STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#222;--dim:#63676c;--line:#dcdfe3;--bad:#b3402a;
--c0:#0b6aa8;--c1:#b8500f;--c2:#3a853a;--c3:#87479d;--c4:#8f6716;--c5:#b8305f}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e3e5e8;--dim:#9aa0a8;--line:#353a40;--bad:#f28b74;
--c0:#6cb8f0;--c1:#f2a25c;--c2:#7fd07f;--c3:#c99ae2;--c4:#e0bf6a;--c5:#f08cb0}}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem;overflow-wrap:anywhere}
p{margin:.4rem 0;overflow-wrap:anywhere;unicode-bidi:plaintext;white-space:pre-line}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:.4rem 0}
td,th{border-bottom:1px solid var(--line);padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td{unicode-bidi:plaintext;white-space:pre-wrap}thead th{color:var(--dim)}
td.num,th.num{text-align:right;white-space:nowrap}td.long{overflow-wrap:anywhere;min-width:15rem}
tbody th{font-weight:600;white-space:nowrap}th+td.long{min-width:0}
.turn{border-left:3px solid var(--c0);padding:.1rem .8rem;margin:.5rem 12% .5rem 0}
.t1{border-color:var(--c1);margin:.5rem 0 .5rem 12%}.turn p{white-space:pre-wrap;max-width:46rem}
.bad,.bad td{color:var(--bad)}.dim{color:var(--dim);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem 1.6rem}
figure{margin:.5rem 0;max-width:34rem}figcaption{font-weight:600;font-size:14px}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:0 1rem;margin:.1rem 0;padding:0;font-size:12px}
ul.legend li::before{content:"";display:inline-block;width:1.5rem;margin-right:.35rem;vertical-align:middle;
border-top:2px solid}
svg{display:block;width:100%;height:auto;overflow:visible}svg text{font:12.5px system-ui,sans-serif;fill:var(--dim)}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}svg .value{fill:var(--ink)}
.grid{stroke:var(--line)}.rule{stroke:var(--dim);stroke-dasharray:2 3}.line{fill:none;stroke-width:1.8}
.bar{fill:var(--c0)}.interval{stroke-width:1.4}.s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:6 2}
.s2{stroke:var(--c2);stroke-dasharray:2 2}.s3{stroke:var(--c3);stroke-dasharray:8 3 2 3}.s4{stroke:var(--c4)}
.s5{stroke:var(--c5);stroke-dasharray:4 4}.mark{fill:var(--paper);stroke-dasharray:none;stroke-width:1.5}
ul.legend li.s0::before{border-color:var(--c0)}ul.legend li.s1::before{border-color:var(--c1);border-top-style:dashed}
ul.legend li.s2::before{border-color:var(--c2);border-top-style:dotted}
ul.legend li.s3::before{border-color:var(--c3);border-top-style:dashed}
ul.legend li.s4::before{border-color:var(--c4)}
ul.legend li.s5::before{border-color:var(--c5);border-top-style:dashed}
details{margin:.5rem 0}summary{cursor:pointer;overflow-wrap:anywhere}
@media print{body{max-width:none}details{display:block}}
"""
STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'"
)


def text(raw: str, max_chars: int = MAX_CHARS) -> Html:
    """Return hostile text as HTML that shows it: control and format characters dropped, markup escaped."""
    cleaned = clean(raw)
    if len(cleaned) > max_chars:
        cleaned = f"{cleaned[:max_chars]}… ({len(cleaned) - max_chars:,} characters more)"
    return Html(html.escape(cleaned))


def element(name: str, /, *parts: Html, **attributes: str) -> Html:
    """Return an element; values of attributes are escaped as texts are, `_` in their names stands for `-`."""
    given = "".join(f' {key.strip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
    closing = "" if name in VOID else f"</{name}>"
    return Html(f"<{name}{given}>{''.join(parts)}{closing}")


def joined(parts: Iterable[Html]) -> Html:
    """Return the parts as one."""
    return Html("".join(parts))


def paragraph(sentence: str, kind: str = "") -> Html:
    """Return a paragraph of text; `kind` is `bad`, `dim` or nothing."""
    return element("p", text(sentence), **({"class_": kind} if kind else {}))


def heading(level: int, words: str) -> Html:
    """Return a heading."""
    return element(f"h{level}", text(words))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[str] = (), flagged: Collection[int] = ()
) -> Html:
    """Return a table of texts; columns in `numbers` are right-aligned, rows in `flagged` stand out."""
    kinds = [{"class_": "num"} if head in numbers else {} for head in heads]
    top = [element("th", text(head), scope="col", **kind) for head, kind in zip(heads, kinds, strict=True)]
    lines = [
        element("tr", *_cells(row, kinds), **({"class_": "bad"} if place in flagged else {}))
        for place, row in enumerate(rows)
    ]
    head = element("thead", element("tr", *top)) if any(heads) else NONE
    return element("div", element("table", head, element("tbody", *lines)), class_="wide")


def _cells(row: Sequence[str], kinds: Sequence[dict[str, str]]) -> list[Html]:
    pairs = zip_longest(row, kinds, fillvalue=None)
    return [_cell(str(cell or ""), dict(kind or {})) for cell, kind in pairs]


def _cell(words: str, kind: dict[str, str]) -> Html:
    return element("td", text(words), **({"class_": "long"} if len(words) > LONG_CHARS else kind))


def pairs_table(rows: Iterable[tuple[str, str]]) -> Html:
    """Return names and what they are, a row each."""
    lines = [element("tr", element("th", text(name), scope="row"), _cell(value, {})) for name, value in rows]
    return element("div", element("table", element("tbody", *lines)), class_="wide")


def folded(summary: str, *parts: Html, is_open: bool = False) -> Html:
    """Return parts that a click on the summary shows and hides."""
    return element("details", element("summary", text(summary)), *parts, **({"open": ""} if is_open else {}))


def page(title: str, *blocks: Html) -> str:
    """Return the whole page, the title and the notice first."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", text(title)),
        Html(f"<style>{STYLE}</style>"),
    )
    body = element("body", heading(1, title), paragraph(NOTICE), *blocks)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
