"""Bars and curves as SVG, on a white ground of their own. Ours stand out, the rest is grey."""

import math
from html import escape

WIDTH = 400  # of a panel
LABEL = 120  # for the names beside bars
LINE = 22  # a bar and the space below it
GAP = 24
OURS = {"onceflight": "#0b5fa5", "onceflight fold": "#3f93d6", "onceflight C": "#7a4fb5"}
FLOOR = {"futex", "no dedup"}
GREYS = ["#555555", "#808080", "#9e9e9e", "#b8b8b8"]
DASHES = ["", "6 3", "2 3", "8 3 2 3"]


def colour(name):
    if name in FLOOR:
        return "#c9a227"
    return OURS.get(name, OURS["onceflight"] if name.startswith("onceflight") else "#9aa0a6")


def digits(value):
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def text(x, y, what, size=12, anchor="start", fill="#222222", weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{fill}" font-weight="{weight}">{escape(what)}</text>'
    )


def document(width, height, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, DejaVu Sans, sans-serif">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def bars(panels):
    """Panels side by side: (title, [(name, value)])."""
    height = 44 + LINE * max(len(rows) for _, rows in panels) + 12
    parts = []
    for place, (title, rows) in enumerate(panels):
        parts += bar_panel(place * (WIDTH + GAP) + 12, title, rows)
    return document(len(panels) * (WIDTH + GAP), height, parts)


def bar_panel(left, title, rows):
    parts = [text(left, 24, title, 14, weight="bold")]
    room = WIDTH - LABEL - 70
    # One bar that is many times as long as the rest would hide them: it is cut and marked.
    values = sorted(value for _, value in rows)
    most = min(values[-1], 2.5 * values[len(values) // 2]) or 1.0
    for line, (name, value) in enumerate(rows):
        y = 40 + line * LINE
        length = max(1.0, room * min(value, most) / most)
        ours = name.startswith("onceflight")
        parts.append(text(left + LABEL - 8, y + 13, name, anchor="end", weight="bold" if ours else "normal"))
        parts.append(
            f'<rect x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{LINE - 5}" fill="{colour(name)}"/>'
        )
        if value > most:
            x = left + LABEL + length - 16
            parts.append(
                f'<path d="M{x:.1f} {y + LINE - 4} l6 -{LINE - 3} h5 l-6 {LINE - 3} z" fill="#ffffff"/>'
            )
        parts.append(text(left + LABEL + length + 5, y + 13, digits(value)))
    return parts


def curves(panels):
    """Panels side by side: (title, {name: [(x, y)]}); x is a logarithm, y starts at 0."""
    height = 300
    parts = []
    for place, (title, by_name) in enumerate(panels):
        parts += curve_panel(place * (WIDTH + GAP) + 12, height, title, by_name)
    return document(len(panels) * (WIDTH + GAP), height, parts)


def curve_panel(left, height, title, by_name):
    parts = [text(left, 24, title, 14, weight="bold")]
    x0, x1, y0, y1 = left + 44, left + WIDTH - 150, height - 30, 44
    xs = sorted({x for points in by_name.values() for x, _ in points})
    top = nice(max(y for points in by_name.values() for _, y in points))
    span = math.log(xs[-1] / xs[0]) or 1.0

    def at(x, y):
        return x0 + (x1 - x0) * math.log(x / xs[0]) / span, y0 + (y1 - y0) * y / top

    for part in range(5):
        value = top * part / 4
        _, y = at(xs[0], value)
        parts.append(f'<path d="M{x0} {y:.1f} H{x1}" stroke="#e3e3e3"/>')
        parts.append(text(x0 - 6, y + 4, f"{value:g}", 11, "end", "#555555"))
    for x in xs:
        parts.append(text(at(x, 0)[0], y0 + 18, tick(x), 11, "middle", "#555555"))
    ends = []
    peers = 0
    for name, points in by_name.items():
        ours = name.startswith("onceflight")
        stroke, dash = colour(name), ""
        if not ours:
            stroke, dash = GREYS[peers % len(GREYS)], DASHES[peers % len(DASHES)]
            peers += 1
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{stroke}" stroke-width="{2.5 if ours else 1.5}" '
            f'stroke-dasharray="{dash}"/>'
        )
        for point in points:
            x, y = at(*point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{stroke}"/>')
        x, y = at(*points[-1])
        ends.append((y, name, stroke, f"{name} {digits(points[-1][1])}"))
    # Names stand where the curves end, moved apart where those are close.
    below = -math.inf
    for y, name, stroke, label in sorted(ends):
        below = max(y, below + 13)
        weight = "bold" if name.startswith("onceflight") else "normal"
        parts.append(text(x1 + 8, below + 4, label, 11, fill=stroke, weight=weight))
    return parts


def nice(value):
    """The next round number that four steps divide well."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if step * power >= value)


def tick(x):
    return f"10^{round(math.log10(x))}" if x >= 1000 else f"{x:g}"
