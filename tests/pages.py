"""Reading pages as a browser would: elements, attributes and texts; and texts that try to be more than text."""

from html.parser import HTMLParser

VOID = frozenset({"meta"})
ELEMENTS = frozenset(
    "html head meta title style body h1 h2 h3 p div table thead tbody tr th td figure figcaption ul li svg desc "
    "polyline line circle rect text details summary".split()
)
ATTRIBUTES = frozenset(
    "lang charset http-equiv content name class scope role viewbox xmlns points x y x1 y1 x2 y2 cx cy r width height "
    "open".split()
)

PAYLOADS = (
    "<script>document.title='hacked'</script>",
    "</script><script>document.title='hacked'</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script\x00>alert(1)</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    "<img src=x onerror=alert(1)//",
    "<svg onload=\"document.title='hacked'\">",
    "<svg/onload=alert(1)>",
    "<svg><script>document.title='hacked'</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "</text></svg><script>document.title='hacked'</script>",
    "</title><script>document.title='hacked'</script>",
    "</desc></svg><iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href=\"javascript:document.title='hacked'\">press</a>",
    "<a href='java&#x0A;script:alert(1)'>press</a>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "\"><script>document.title='hacked'</script>",
    "'><script>document.title='hacked'</script>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "</style><script>document.title='hacked'</script>",
    "<style>@import '//evil.example/x.css'</style>",
    "}</style><body style='display:none'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><input name=q autofocus></form>",
    "<object data=//evil.example></object><embed src=//evil.example>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "]]><script>alert(1)</script>",
    "<!-- --><script>document.title='hacked'</script><!-- -->",
    "--><script>document.title='hacked'</script><!--",
    "<!doctype html><html><body onload=alert(1)>",
    "<?xml version='1.0'?><!ENTITY x SYSTEM 'file:///etc/passwd'>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;b&#62; &amp;lt;",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %> {%raw%}",
    "</td></tr></table></details></div><h1>forged</h1>",
    "</p><p class='bad'>forged",
    "a\x00b\x01c\x08d\x7fe",
    "\u202egnp.exe\u202c \u2066left\u2069 \u200fright",
    "\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\press\x1b]8;;\x1b\\",
    "\x9b31mred \x90q\x9c \x1bc",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "\ud800<b>half a pair</b>\udfff",
    "<b\u200b>joined\u200d\ufeff</b>",
    "ＳＣＲＩＰＴ ‹script› ＜script＞alert(1)＜/script＞",
    "[red]markup[/red] [link=http://evil.example]x[/link] \\[",
    "<details open ontoggle=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "`-alert(1)-` ${alert(1)} <x contenteditable onblur=alert(1)>",
)


class PageReader(HTMLParser):
    """What stands on a page. Raises AssertionError for what may not, or is not closed where it was opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, list[str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.metas: list[dict[str, str | None]] = []
        self.num_styles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS, f"<{tag}>"
        names = [name for name, _ in attrs]
        assert set(names) <= ATTRIBUTES, f"<{tag} {names}>"
        assert len(names) == len(set(names)), f"<{tag} {names}>"
        self.num_styles += tag == "style"
        if tag in VOID:
            self.metas.append(dict(attrs))
        else:
            self.open.append((tag, []))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        opened, parts = self.open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        self.texts.setdefault(tag, []).append("".join(parts))

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1][1].append(data)
        else:
            assert not data.strip()

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def read_page(page: str) -> PageReader:
    """Return what stands on a page, once all of it was found to be allowed and balanced."""
    reader = PageReader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    assert reader.num_styles == 1
    return reader
