"""The pictures of analyze_results.py: matplotlib figures of a Comparison (comparison_data.py).

Sizes are in inches, fonts in points, for figures of 5.6 inches or more that are still read at 3.4, the width of a column. No picture needs
colour: curves have markers, line styles and labels, cells have numbers.
"""
import dataclasses
import itertools
import logging
import math
import warnings

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # "is building the font cache"

import matplotlib
import matplotlib.colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from comparison_data import show_bytes, show_count, show_number, show_seconds

INK, PALE = "#1a1a1a", "#8a8a8a"
FONT, SMALL = 9.0, 7.0


@dataclasses.dataclass(frozen=True)
class Style:
    """How one architecture is drawn. Colours are those of Okabe and Ito, told apart by colour-blind people.

    Curves that lie on each other stay visible: thick ones are drawn first, and large open markers leave room for small filled ones.
    """

    color: str
    marker: str
    size: float  # of the marker, in points
    filled: bool
    dashes: tuple  # on, off, ... in units of the line's width; () is solid
    width: float = 1.5


STYLES = {
    "bsbr": Style("#D55E00", "o", 6.5, True, (), 2.8),
    "standard": Style("#000000", "s", 7.5, False, (5, 2)),
    "linear": Style("#0072B2", "^", 8.5, False, (1, 1.2)),
    "delta_net": Style("#009E73", "v", 8.5, False, (5, 1.5, 1, 1.5)),
    "sliding_window": Style("#56B4E9", "D", 4.0, True, (3, 1.2)),
    "hopfield": Style("#CC79A7", "P", 5.5, True, (7, 1.5, 1, 1.5, 1, 1.5)),
    "gau": Style("#E69F00", "X", 5.5, True, (2, 2.5)),
}
# For architectures that are not in the table, in turn.
OTHER_STYLES = (
    Style("#555555", "*", 7.0, True, (4, 3)),
    Style("#7A4B00", "h", 8.0, False, (1, 3)),
    Style("#004D40", "<", 5.0, True, (8, 2)),
    Style("#555555", ">", 8.0, False, (2, 1)),
    Style("#7A4B00", "p", 5.0, True, (6, 1, 2, 1)),
    Style("#004D40", "d", 8.0, False, (1, 2, 3, 2)),
)


def styles_of(architectures):
    """architecture -> Style."""
    others = itertools.cycle(OTHER_STYLES)
    return {name: STYLES.get(name) or next(others) for name in architectures}


# ---- the five pictures ----------------------------------------------------------------------------------------------------------------


def pictures(comparison):
    """Yields name and figure."""
    set_up()
    yield "time", draw_time(comparison)
    yield "memory", draw_memory(comparison)
    yield "throughput", draw_throughput(comparison)
    yield "relative", draw_relative(comparison)
    yield "time_memory", draw_time_memory(comparison)


def draw_time(comparison):
    slopes = exponents(comparison, "time_exponent")
    uncertain = [name for name, fit in comparison.fits.items() if fit.time_uncertain and fit.time_exponent is not None]
    slopes.update({name: slopes[name] + "?" for name in uncertain})
    return draw_curves(comparison, "seconds", "Time of one forward against length", "time", decimal_ticks(show_seconds), ("slope", slopes),
                       exponent="time_exponent", uncertain=uncertain)


def draw_memory(comparison):
    return draw_curves(comparison, "memory_bytes", "Memory of one forward against length", "memory", binary_ticks,
                       ("slope", exponents(comparison, "memory_exponent")), exponent="memory_exponent")


def draw_throughput(comparison):
    last = {name: show_count(comparison.curve(name, "tokens_per_second")[1][-1]) for name in comparison.fits}
    return draw_curves(comparison, "tokens_per_second", "Throughput against length", "tokens per second", decimal_ticks(show_count),
                       ("at end", last))


def draw_curves(comparison, field, title, quantity, y_ticks, column, exponent=None, uncertain=()):
    """One curve for each architecture on log-log axes, each named at its right end.

    y_ticks(low, high) -> positions and texts; column: heading and a text for each architecture, beside its name. exponent: the field of
    the fit whose line is drawn, thin and pale, under the measured points; uncertain: names whose text is grey.
    """
    names = list(comparison.fits)
    styles, curves = styles_of(comparison.architectures), {name: comparison.curve(name, field) for name in names}
    heading, texts = column
    figure = new_figure(5.6, 1.0 + max(2.9, 0.17 * len(names)))
    labels = [(shorten(name), texts[name]) for name in names]
    name_width = max(text_width(figure, label, FONT) for label, _ in labels)
    column_width = max(text_width(figure, text, FONT) for text in [heading, *texts.values()])
    right = 0.58 + name_width + 0.1 + column_width
    bars = {name: comparison.repeats(name) for name in names} if field == "seconds" else {}
    x_limits = limits([x for x, _ in curves.values()], 0.03)
    y_limits = limits([y for _, y in curves.values()] + [ends for bar in bars.values() for ends in bar], 0.05)
    left = 0.4 + max(text_width(figure, text, FONT) for text in y_ticks(*y_limits)[1])
    axes = add_axes(figure, left, 0.66, 5.6 - left - right - 0.08, title, comparison)

    set_axis(axes.xaxis, x_limits, "length in tokens", length_ticks(comparison.lengths, x_limits, axes))
    set_axis(axes.yaxis, y_limits, quantity, y_ticks(*y_limits))
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    for name in names:
        x, y = curves[name]
        a = getattr(comparison.fits[name], exponent) if exponent else None
        if a is not None and len(x) > 1 and name not in uncertain:
            axes.plot(x, power_law(x, y, a), color=styles[name].color, linewidth=0.9, alpha=0.4, zorder=2)
        if name in bars:
            axes.vlines(x, *bars[name], color=styles[name].color, linewidth=1.2, zorder=2.5)
    for name in names:
        style = styles[name]
        axes.plot(*curves[name], **line_style(style), dash_capstyle="butt", zorder=3 - style.width / 100 + style.filled / 10)
    ends = {name: end_of(*curves[name], x_limits[1], getattr(comparison.fits[name], exponent) if exponent else None) for name in names}
    label_ends(axes, names, styles, {name: (x[-1], y[-1]) for name, (x, y) in curves.items()}, ends, labels, right, uncertain)
    axes.annotate(heading, (1, 1), (right * 72, 4), "axes fraction", "offset points", ha="right", va="bottom", fontsize=FONT, color=INK,
                  style="italic")
    return figure


def draw_relative(comparison):
    """A cell for each architecture and length: how many times slower than the fastest at that length. Darker is slower."""
    names, lengths = comparison.architectures, comparison.lengths
    rows, columns = [shorten(name) for name in names], [f"{length:,}" for length in lengths]
    values = {pair: comparison.relative(*pair) for pair in comparison.results}
    figure = new_figure(1, 1)
    left = 0.25 + max(text_width(figure, row, FONT) for row in rows)
    narrowest = max(0.5, *(text_width(figure, show_relative(value), FONT) + 0.12 for value in values.values()))
    height, width = 0.31, max(narrowest, (5.6 - left - 0.15) / len(lengths))  # fills the figure
    longest = max(text_width(figure, column, FONT) for column in columns)
    slanted = longest + 0.08 > width
    bottom = 0.66 + (0.6 * longest if slanted else 0)
    figure.set_size_inches(max(5.6, left + width * len(lengths) + 0.15), bottom + 0.34 + height * len(names))
    axes = add_axes(figure, left, bottom, width * len(lengths), "Times slower than the fastest at each length", comparison,
                    height=height * len(names))
    norm = matplotlib.colors.LogNorm(1, max(10.0, *values.values()))
    for row, name in enumerate(names):
        for column, length in enumerate(lengths):
            draw_cell(axes, column, row, values.get((name, length)), norm, comparison.failure_names.get((name, length), "none"))
    axes.set(xlim=(0, len(lengths)), ylim=(len(names), 0), xlabel="length in tokens")
    for axis, texts in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_major_locator(FixedLocator([i + 0.5 for i in range(len(texts))]))
        axis.set_major_formatter(FixedFormatter(texts))
    axes.tick_params(length=0)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", va="top", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    return figure


def show_relative(value):
    return f"{value:.1e}" if value >= 99999.5 else show_number(value)


def draw_cell(axes, column, row, value, norm, missing):
    """value: None where there is no result; such a cell is hatched, and says `missing`."""
    if value is None:
        axes.add_patch(Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, fill=False, edgecolor="#bdbdbd", linewidth=0, hatch="////"))
        axes.text(column + 0.5, row + 0.5, missing, ha="center", va="center", fontsize=SMALL + 1,
                  bbox=dict(facecolor="white", edgecolor="none", pad=0.8))
        return
    face = matplotlib.colormaps["YlOrBr"](0.85 * norm(value))
    brightness = 0.3 * face[0] + 0.59 * face[1] + 0.11 * face[2]
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", linewidth=1.2))
    axes.text(column + 0.5, row + 0.5, show_relative(value), ha="center", va="center", fontsize=FONT,
              color=INK if brightness > 0.5 else "white", weight="bold" if value == 1 else "normal")


def draw_time_memory(comparison):
    """A disc for each architecture at the longest common length; areas are as the numbers of parameters."""
    length = comparison.common_length()
    names = [name for name in comparison.architectures if (name, length) in comparison.results]
    styles, results = styles_of(comparison.architectures), {name: comparison.results[name, length] for name in names}
    figure = new_figure(5.6, 4.2)
    title = f"Time against memory at {length:,} tokens; area: parameters"
    x_limits, y_limits = (limits([[result[field] for result in results.values()]], 0.2) for field in ("memory_bytes", "seconds"))
    y_ticks = decimal_ticks(show_seconds)(*y_limits)
    left = 0.4 + max(text_width(figure, text, FONT) for text in y_ticks[1])
    axes = add_axes(figure, left, 0.66, 5.6 - left - 0.4, title, comparison)
    set_axis(axes.xaxis, x_limits, "memory", binary_ticks(*x_limits))
    set_axis(axes.yaxis, y_limits, "time", y_ticks)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)

    largest = max(result["parameters"] for result in results.values())
    discs = []  # x, y, radius in points from the lower left of the figure
    for name in names:
        point = results[name]["memory_bytes"], results[name]["seconds"]
        radius = 15 * math.sqrt(results[name]["parameters"] / largest)
        color = styles[name].color
        axes.scatter(*point, s=math.pi * radius**2, facecolor=color + "40", edgecolor=color, linewidth=1, zorder=3)
        axes.plot(*point, **{**line_style(styles[name]), "linestyle": "none"}, zorder=4)
        x, y = axes.transData.transform(point) * 72 / figure.dpi
        discs.append((x, y, radius))
    label_discs(axes, discs, [f"{shorten(name)}, {show_count(results[name]['parameters'])}" for name in names])
    return figure


# ---- figures and axes -----------------------------------------------------------------------------------------------------------------


def set_up():
    """The same pictures wherever they are drawn: no settings of the user's, no time, no random ids."""
    warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font lacks
    matplotlib.rcParams.update(matplotlib.rcParamsDefault)
    matplotlib.use("Agg")
    matplotlib.rcParams.update({
        "font.family": "DejaVu Sans", "font.size": FONT, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#555555",
        "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.8, "svg.hashsalt": "bsbr", "hatch.linewidth": 0.8,
        "axes.axisbelow": True,
    })


def save(figure, path):
    """path ends in .png or .svg."""
    figure.savefig(path, dpi=200, metadata={"Date": None} if path.endswith(".svg") else None)


def new_figure(width, height):
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure, left, bottom, width, title, comparison, height=None):
    """Axes at a place in inches, with the title at the left of the figure and what was measured at its foot."""
    full_width, full_height = figure.get_size_inches()
    height = height or full_height - bottom - 0.46
    axes = figure.add_axes([left / full_width, bottom / full_height, width / full_width, height / full_height])
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.08 / full_width, 1 - 0.06 / full_height, title, ha="left", va="top", fontsize=FONT + 1, weight="bold")
    foot = fitting(figure, circumstances(comparison), full_width - 0.16)
    figure.text(0.08 / full_width, 0.06 / full_height, foot, ha="left", va="bottom", fontsize=SMALL, color="#555555")
    return axes


def circumstances(comparison):
    """What a reader of a picture must know of the measurement, as short as can be."""
    about, config, parts = comparison.about, comparison.about.get("config") or {}, []
    if about.get("ranks") and about.get("threads_per_rank"):
        parts.append(f"ranks × threads {about['ranks']} × {about['threads_per_rank']}")
    parts += [f"{name} {about[name]}" for name in ("precision", "batch") if about.get(name)]
    parts += [f"{name} {config[name]}" for name in ("num_layers", "hidden_dim", "num_heads", "chunk_size") if name in config]
    return ", ".join(parts).replace("$", r"\$")


def fitting(figure, text, width):
    """The text, cut where it is wider than `width` inches."""
    if text_width(figure, text, SMALL) <= width:
        return text
    while text and text_width(figure, text + " …", SMALL) > width:
        text = text[:-1]
    return text + " …"


def text_width(figure, text, size):
    """In inches."""
    probe = Text(0, 0, text, fontsize=size, figure=figure)
    return probe.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi


def shorten(name):
    """A name for a picture: not too long, and not taken for a formula."""
    return (name if len(name) <= 20 else name[:19] + "…").replace("$", r"\$")


def line_style(style):
    edge = dict(markeredgecolor="white", markeredgewidth=0.6) if style.filled else dict(markerfacecolor="none", markeredgewidth=1.2)
    return dict(color=style.color, linewidth=style.width, linestyle=(0, style.dashes) if style.dashes else "-", marker=style.marker,
                markersize=style.size, **edge)


def limits(lists, pad):
    """Limits of a log axis around all values, with `pad` of their span, and room where the span is narrow."""
    values = [value for values in lists for value in values]
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(pad * (high - low), 0.03, (0.3 - (high - low)) / 2)
    return 10 ** (low - pad), 10 ** (high + pad)


def set_axis(axis, axis_limits, label, ticks):
    """A log axis with the ticks that are given and no others."""
    positions, texts = ticks
    if axis.axis_name == "x":
        axis.axes.set(xscale="log", xlim=axis_limits, xlabel=label)
    else:
        axis.axes.set(yscale="log", ylim=axis_limits, ylabel=label)
    axis.set_major_locator(FixedLocator(positions))
    axis.set_major_formatter(FixedFormatter(texts))
    axis.set_minor_locator(NullLocator())


# ---- ticks ----------------------------------------------------------------------------------------------------------------------------


def length_ticks(lengths, x_limits, axes):
    """The lengths that were measured: every n-th, down from the longest, so that their numbers do not touch."""
    span = math.log(x_limits[1] / x_limits[0])
    inches = axes.get_position().width * axes.figure.get_size_inches()[0]
    room = max(text_width(axes.figure, f"{length:,}", FONT) for length in lengths) + 0.08
    for step in range(1, len(lengths) + 1):
        kept = lengths[::-1][::step]
        if all(math.log(long / short) / span * inches >= room for long, short in zip(kept, kept[1:])):
            break
    return kept, [f"{length:,}" for length in kept]


def decimal_ticks(show):
    """Powers of ten, or 1, 2, 5 times such where they are few; -> a function of limits."""

    def ticks(low, high):
        for factors in ((1,), (1, 3), (1, 2, 5)):
            found = [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for m in factors]
            found = [value for value in found if low <= value <= high]
            if len(found) >= 3:
                return with_texts(thin(found), show)
        return with_texts(even_ticks(low, high), show)

    return ticks


def binary_ticks(low, high):
    """Bytes: powers of two."""
    found = [2.0**e for e in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    if len(found) >= 3:
        return with_texts(thin(found), show_bytes)
    unit = 2.0 ** (10 * math.floor(math.log2(high) / 10))
    return with_texts([unit * value for value in even_ticks(low / unit, high / unit)], show_bytes)


def even_ticks(low, high):
    """Round numbers for limits that are too close for powers."""
    return [value for value in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= value <= high]


def thin(values):
    """Every n-th, so that no more than seven remain."""
    return values[:: math.ceil(len(values) / 7)]


def with_texts(values, show):
    """Texts without trailing zeros: 1 ms, not 1.00 ms."""
    texts = []
    for value in values:
        number, _, unit = show(value).partition(" ")
        texts.append(f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".strip())
    return values, texts


# ---- labels ---------------------------------------------------------------------------------------------------------------------------


def exponents(comparison, field):
    """architecture -> text."""
    values = {name: getattr(fit, field) for name, fit in comparison.fits.items()}
    return {name: "–" if value is None else f"{value:.2f}".replace("-", "−") for name, value in values.items()}


def power_law(x, y, exponent):
    """c·xᵃ with the c that fits best, at x [points]."""
    c = sum(math.log(v) - exponent * math.log(u) for u, v in zip(x, y)) / len(x)
    return [math.exp(min(c + exponent * math.log(u), 700)) for u in x]


def end_of(x, y, x_end, exponent):
    """log y where a curve would meet the right end if it went on, so that labels are in the order of the curves."""
    return math.log(y[-1]) + (exponent or 0) * math.log(x_end / x[-1])


def label_ends(axes, names, styles, points, ends, labels, right, pale=()):
    """Names the curves to the right of the axes: a sample of the line, the name, and a column; lines lead there from the last points.

    points: last points in data coordinates; ends: wanted heights, as logarithms; labels: name and text for each of names; right: where the
    column ends, in inches from the axes; pale: names whose text is grey.
    """
    bottom, top = (math.log(value) for value in axes.get_ylim())
    width, height = axes.get_position().size * axes.figure.get_size_inches()
    order = sorted(range(len(names)), key=lambda i: (ends[names[i]], -i))
    wanted = [(ends[names[i]] - bottom) / (top - bottom) * height for i in order]
    heights = spread(wanted, min(0.17, height / max(1, len(names) - 1)), 0.02, height - 0.02)
    start, middle, end, name_at, text_at = (1 + inches / width for inches in (0.14, 0.33, 0.52, 0.58, right))
    line = dict(transform=axes.transAxes, clip_on=False)
    put = dict(transform=axes.transAxes, va="center_baseline", fontsize=FONT)
    for i, y in zip(order, (inches / height for inches in heights)):
        style, (name, text) = styles[names[i]], labels[i]
        x_point, y_point = axes.transAxes.inverted().transform(axes.transData.transform(points[names[i]]))
        goes_on = x_point < 0.9  # beside the others' curves: it must not look like one
        axes.add_line(Line2D([x_point, start], [y_point, y], **line, color=style.color, linewidth=0.7, zorder=2,
                             linestyle=(0, (1, 4)) if goes_on else "-"))
        axes.add_line(Line2D([start, middle, end], [y] * 3, **line, **line_style(style), markevery=[1]))
        axes.text(name_at, y, name, **put, weight="bold" if names[i] == "bsbr" else "normal")
        axes.text(text_at, y, text, **put, ha="right", color=PALE if names[i] in pale else INK)


def spread(wanted, gap, low, high):
    """Positions near the wanted ones (rising), at least `gap` apart and within low and high.

    Wanted positions less gap·index must not fall: those that do are averaged (isotonic regression).
    """
    blocks = []  # sum, count
    for index, value in enumerate(wanted):
        blocks.append([value - gap * index, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    level = [total / count for total, count in blocks for _ in range(count)]
    highest = max(low, high - gap * (len(wanted) - 1))
    return [min(max(value, low), highest) + gap * index for index, value in enumerate(level)]


def label_discs(axes, discs, texts):
    """Names discs (x, y, radius in points of the figure) where there is room."""
    figure = axes.figure
    frame = axes.get_window_extent().extents * 72 / figure.dpi
    width, height = figure.get_size_inches() * 72
    boxes, lines = [], []
    for disc, text in sorted(zip(discs, texts)):
        box, line = place_of(disc, (text_width(figure, text, FONT) * 72 + 4, FONT + 4), frame, discs, boxes, lines)
        boxes.append(box)
        lines.append(line)
        figure.add_artist(Line2D([x / width for x, _ in line], [y / height for _, y in line], color=PALE, linewidth=0.7))
        figure.text((box[0] + 2) / width, (box[1] + box[3]) / 2 / height, text, ha="left", va="center_baseline", fontsize=FONT)


def place_of(disc, size, frame, discs, boxes, lines):
    """The best box (left, bottom, right, top) for a label of this size, and the line (start, end) that leads to it."""
    x, y, radius = disc
    best = math.inf, None, None
    for distance in (6, 14, 24, 36, 50, 70, 95):
        if best[0] <= distance:
            break
        for angle in range(0, 360, 15):
            u, v = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            line = (x + radius * u, y + radius * v), (x + (radius + distance) * u, y + (radius + distance) * v)
            left, bottom = line[1][0] - size[0] * (1 - u) / 2, line[1][1] - size[1] * (1 - v) / 2
            box = left, bottom, left + size[0], bottom + size[1]
            best = min(best, (distance + cost_of(box, line, frame, discs, boxes, lines), box, line), key=lambda choice: choice[0])
    return best[1:]


def cost_of(box, line, frame, discs, boxes, lines):
    """What is bad about this place, in points of distance that one would rather go: what it leaves, covers or crosses."""
    cost = 0
    if box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]:
        cost += 2000
    cost += 1000 * sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes)
    for x, y, radius in discs:
        nearest = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
        cost += 400 * (math.dist(nearest, (x, y)) < radius + 1)
        cost += 40 * sum(math.dist(point, (x, y)) < radius for point in samples(line))
    cost += 300 * sum(crosses(line, other) for other in lines)
    cost += 300 * sum(inside(p, b) for b in boxes for p in samples(line))
    cost += 300 * sum(inside(p, box) for other in lines for p in samples(other))
    return cost


def samples(line):
    (x0, y0), (x1, y1) = line
    return [(x0 + (x1 - x0) * i / 8, y0 + (y1 - y0) * i / 8) for i in range(1, 9)]


def inside(point, box):
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def crosses(one, other):
    """Do two lines (start, end) cross?"""

    def side(line, point):
        (x0, y0), (x1, y1) = line
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0) > 0

    return side(one, other[0]) != side(one, other[1]) and side(other, one[0]) != side(other, one[1])
