"""The timeline of a job as two pages: `exec_timeline.html` by worker, `plan_timeline.html` by node.

Each is one self-contained HTML file with an SVG: no plotly, no network, no script. A row is a
lane of its group, a bar a run of a task, with everything known about it in its tooltip. Runs that
would be narrower than a pixel are drawn together, so that a page of 100,000 runs stays small; the
Chrome trace (`timeline_json.py`) has each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from smallpond.show.lanes import lanes_of
from smallpond.show.record import RUNNING, SUCCEEDED, JobRecord, Span
from smallpond.show.units import bytes_text, count_text, plural, seconds_text, share_text

WIDTH, LABEL_WIDTH, LANE_HEIGHT, TOP = 1400.0, 230.0, 16.0, 34.0
TICKS_MIN = 6
LANES_MAX = 64
"""Lanes of a group that are drawn; the rest is named in its label."""
PALETTE = (
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948",
    "#9c755f", "#ff9da7", "#86bcb6", "#8cd17d", "#499894", "#d4a6c8",
)  # fmt: skip
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 13px system-ui, sans-serif; margin: 20px; }}
svg text {{ font: 11px system-ui, sans-serif; fill: currentColor; }}
.grid {{ stroke: currentColor; stroke-opacity: .15; }}
.bad {{ stroke: #d62728; stroke-width: 2; }} .open {{ fill-opacity: .45; }}
.key {{ display: inline-block; margin: 0 14px 4px 0; white-space: nowrap; }}
.key i {{ display: inline-block; width: 10px; height: 10px; margin-right: 5px; }}
</style></head><body><h3>{title}</h3>
<p>{keys}</p>
{drawing}
</body></html>
"""
Text = Callable[[Span], str]


def write_timeline_html(
    record: JobRecord, folder: str | Path, now_s: float, job_id: str = ""
) -> list[Path]:
    """Writes both pages into `folder`; returns their paths."""
    record.advance()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)

    def worker(span: Span) -> str:
        return span.worker

    def node(span: Span) -> str:
        return record.node(span.node_id, span.key).name

    written = []
    for name, row_of, colour_of in (
        ("exec_timeline", worker, node),
        ("plan_timeline", node, worker),
    ):
        path = target / f"{name}.html"
        path.write_text(timeline_page(record, name, row_of, colour_of, now_s, job_id))
        written.append(path)
    return written


def timeline_page(
    record: JobRecord, name: str, row_of: Text, colour_of: Text, now_s: float, job_id: str = ""
) -> str:
    """The page with a row group per `row_of` and a colour per `colour_of`."""
    done, total = record.done_count, record.task_count
    elapsed_s = record.elapsed_s(now_s)
    title = (
        f"{name} - progress: {done}/{total} ({share_text(done, total)}), "
        f"elapsed: {elapsed_s:.1f} secs" + (f", job: {job_id}" if job_id else "")
    )
    colours: dict[str, str] = {}
    for span in record.spans:
        colours.setdefault(colour_of(span), PALETTE[len(colours) % len(PALETTE)])
    keys = "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(label)}</span>'
        for label, colour in colours.items()
    )
    if record.span_count_dropped:
        keys += f"<br>{plural(record.span_count_dropped, 'later run')} not kept"
    drawing = _drawing(record, row_of, lambda span: colours[colour_of(span)], now_s)
    return PAGE.format(title=escape(title), keys=keys, drawing=drawing)


def _drawing(record: JobRecord, row_of: Text, colour_of: Text, now_s: float) -> str:
    groups: dict[str, list[Span]] = {}
    for span in record.spans:
        groups.setdefault(row_of(span), []).append(span)
    start_s = min((span.start_s for span in record.spans), default=0.0)
    end_s = max((span.start_s + span.elapsed_s(now_s) for span in record.spans), default=0.0)
    scale = (WIDTH - LABEL_WIDTH) / max(end_s - start_s, 1e-6)
    parts: list[str] = []
    y = TOP
    for label in sorted(groups):
        lanes = lanes_of(groups[label], now_s)
        hidden = len(lanes) - LANES_MAX
        text = label + (f" (+{plural(hidden, 'lane')})" if hidden > 0 else "")
        parts.append(f'<text x="0" y="{y + 12:.0f}">{escape(text)}</text>')
        for lane in lanes[:LANES_MAX]:
            parts += _lane(lane, y, start_s, scale, colour_of, now_s)
            y += LANE_HEIGHT
        y += 6
    axis = _axis(end_s - start_s, scale, y)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" role="img" '
        f'viewBox="0 0 {WIDTH:.0f} {y + 10:.0f}">{axis}{"".join(parts)}</svg>'
    )


def _lane(
    lane: Sequence[Span], y: float, start_s: float, scale: float, colour_of: Text, now_s: float
) -> list[str]:
    bars: list[str] = []
    crowd: list[Span] = []

    def flush() -> None:
        if crowd:
            bars.append(_bar(crowd, y, start_s, scale, colour_of, now_s))
            crowd.clear()

    for span in lane:
        narrow = span.elapsed_s(now_s) * scale < 1.0
        if crowd:
            first = crowd[0]
            far = (span.start_s - first.start_s) * scale >= 1.0
            other = span.status != first.status or colour_of(span) != colour_of(first)
            if far or other or not narrow:
                flush()
        crowd.append(span)
        if not narrow:
            flush()
    flush()
    return bars


def _bar(
    spans: Sequence[Span], y: float, start_s: float, scale: float, colour_of: Text, now_s: float
) -> str:
    first, last = spans[0], spans[-1]
    x = LABEL_WIDTH + (first.start_s - start_s) * scale
    width = max(0.8, (last.start_s + last.elapsed_s(now_s) - first.start_s) * scale)
    style = ""
    if first.status == RUNNING:
        style = ' class="open"'
    elif first.status != SUCCEEDED:
        style = ' class="bad"'
    text = span_text(first, now_s)
    if len(spans) > 1:
        text = f"{plural(len(spans), 'short run')} from {first.key} to {last.key}"
    return (
        f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{LANE_HEIGHT - 3:.0f}" '
        f'fill="{colour_of(first)}"{style}><title>{escape(text)}</title></rect>'
    )


def span_text(span: Span, now_s: float) -> str:
    """Everything known about a run, a line each."""
    lines = [
        f"{span.key} ({span.runtime_id}) on {span.worker}",
        f"{span.status}, {seconds_text(span.elapsed_s(now_s))}",
    ]
    event = span.event
    if event is not None:
        if event.cpu_s > 0:
            lines.append(f"CPU {seconds_text(event.cpu_s)}")
        if event.rss_max_bytes > 0:
            lines.append(f"peak memory {bytes_text(event.rss_max_bytes)}")
        if event.rows_in > 0 or event.rows_out > 0:
            rows = (count_text(max(0, rows)) for rows in (event.rows_in, event.rows_out))
            lines.append("{} rows in, {} out".format(*rows))
        if event.error is not None:
            lines.append(f"{type(event.error).__name__}: {event.error}")
    return "\n".join(lines)


def _axis(length_s: float, scale: float, height: float) -> str:
    step_s = tick_step_s(length_s)
    marks = []
    for index in range(int(length_s / step_s) + 1):
        x = LABEL_WIDTH + index * step_s * scale
        marks.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="18" y2="{height:.0f}"/>'
            f'<text x="{x + 3:.1f}" y="14">{seconds_text(index * step_s)}</text>'
        )
    return "".join(marks)


def tick_step_s(length_s: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that gives at least TICKS_MIN ticks."""
    step_s = 1e-4
    for exponent in range(-4, 8):
        for factor in (1, 2, 5):
            if factor * 10.0**exponent * TICKS_MIN <= length_s:
                step_s = factor * 10.0**exponent
    return step_s
