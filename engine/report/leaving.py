"""The part of the page that says where texts went. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from engine.egress import HEADS, outside
from engine.egress_log import Noted
from engine.page.markup import NONE, Html, heading, joined, paragraph, table

HERE_ALONE: Final = "No text of this run left this machine or its cluster."


def of_egress(noted: Sequence[Noted]) -> Html:
    """Return who sent texts where, and what stood in them; a table for each time that it changed."""
    if not noted:
        return NONE
    hosts = list(dict.fromkeys(host for one in noted for host in outside(one.outlets)))
    said = f"Texts of this run may have gone to {', '.join(hosts)}: privacy.egress allowed it." if hosts else HERE_ALONE
    return joined([heading(2, "Where texts went"), paragraph(said), *(part for one in noted for part in _lines(one))])


def _lines(noted: Noted) -> tuple[Html, Html]:
    since = f"from {datetime.fromtimestamp(noted.at, UTC):%Y-%m-%d %H:%M} UTC on"
    left = [place for place, one in enumerate(noted.outlets) if not one.is_inside]
    return paragraph(since, "dim"), table(HEADS, [one.row for one in noted.outlets], flagged=left)
