"""The pictures of `scaling.py draw`. Measured values are points or full bars, modelled ones lines or pale bars; no picture needs colour."""
import dataclasses
import math
import os
import statistics

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from model import PHASES, predict, rule_of_thumb
from setups import ARCHITECTURES, Setup, heads_of
from study import BAD_OUTPUT, Failure, disturbed

from comparison_data import counted, show_seconds  # study has named its folder
from comparison_plots import (FONT, INK, SMALL, decimal_ticks, even_ticks, label_ends, limits, line_style, new_figure, save, set_axis, set_up,
                              styles_of, text_width)

STYLES = styles_of(ARCHITECTURES)
PALE = 0.3  # opacity of runs that were disturbed
FAR_TOKENS, FAR_RANKS = 1 << 24, tuple(2**n for n in range(11))
MOST_ERROR = 0.15  # median; a model that is further off is not used to extrapolate
OTHER = "other"  # of a run: what is in no phase
KIB = 1024
PHASE_LOOKS = {  # face, hatch
    "project": ("#56B4E9", ""), "finish": ("#0072B2", ""), "states": ("#F0E442", "///"), "within_chunk": ("#E69F00", ".."),
    "mixing": ("#D55E00", "xxx"), "retrieval": ("#F0E442", "\\\\\\"), "attention": ("#E69F00", "xx"), "scan": ("#E69F00", "++"),
    "embedding": ("#CCCCCC", ""), "final_norm": ("#999999", ""), "exchange": ("#CC79A7", "oo"), "agreement": ("#FFFFFF", "xx"), OTHER: ("#FFFFFF", "--"),
}


def write(runs, machine_of, cluster, folder):
    """All pictures that the runs give, as PNG and SVG -> their names, and notes on what was not drawn.

    machine_of(run) -> Machine; cluster: the one to extrapolate to.
    """
    set_up()
    points = [Point(run, Setup.of(run["summary"]), predict(machine_of(run), Setup.of(run["summary"]))) for run in runs]
    names, notes = [], []
    try:
        os.makedirs(folder, exist_ok=True)
        for name, figure in pictures(points, machine_of):
            names.append(save_both(figure, folder, name))
        error = statistics.median(errors_of(undisturbed(points)))
        if error <= MOST_ERROR:
            names.append(save_both(draw_far(cluster, points), folder, "scaling_far"))
        else:
            notes.append(f"scaling_far is not drawn: the model's median error on these runs is {error:.1%}, must be {MOST_ERROR:.0%} at most. "
                         "Calibrate on a quiet machine")
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"{folder}: the output cannot be written: {error.strerror or error}") from None
    return names, notes


def save_both(figure, folder, name):
    for kind in ("png", "svg"):
        save(figure, os.path.join(folder, f"{name}.{kind}"))
    return name


def pictures(points, machine_of):
    """Names and figures of what was measured."""
    curves = {study: series_of(points, study) for study in ("strong", "weak")}
    if curves["strong"]:
        yield "scaling_speedup", draw_speedup(curves["strong"])
    if any(curves.values()):
        yield "scaling_efficiency", draw_efficiency(curves)
        yield "scaling_bytes", draw_bytes(curves)
    for study, series in curves.items():
        for name, of_name in series.items():
            yield f"scaling_phases_{study}_{name}", draw_phases(study, name, of_name)
    yield "scaling_model", draw_errors(points)
    by_length = chunk_series(points)
    if by_length:
        yield "scaling_chunks", draw_chunks(by_length, machine_of)


def undisturbed(points):
    """Those, or all if other processes disturbed every one."""
    return [point for point in points if not disturbed(point.run)] or points


def errors_of(points):
    return [abs(point.model["seconds"] / point.summary["seconds"] - 1) for point in points]


@dataclasses.dataclass(frozen=True)
class Point:
    """A run and what the model says of it."""

    run: dict
    setup: Setup
    model: dict

    @property
    def summary(self):
        return self.run["summary"]

    @property
    def cores(self):
        """Cores in use."""
        return min(self.setup.ranks * self.setup.threads_per_rank, self.run["cores"])

    def rate(self, seconds):
        """Tokens per second on each core in use."""
        return self.setup.length / seconds / self.cores


def series_of(points, study):
    """architecture -> points by ranks, of the chunk size and the amount of tokens that have been run on most ranks."""
    series = {}
    for point in points:
        if point.run["study"] == study:
            tokens = point.setup.length // (point.setup.ranks if study == "weak" else 1)
            series.setdefault(point.setup.architecture, {}).setdefault((tokens, point.setup.chunk_size), {})[point.setup.ranks] = point
    longest = {name: max(groups.items(), key=lambda item: (len(item[1]), item[0]))[1] for name, groups in series.items()}
    return {name: [longest[name][ranks] for ranks in sorted(longest[name])] for name in ARCHITECTURES
            if name in longest and len(longest[name]) > 1}


def chunk_series(points):
    """length -> points by chunk size, of bsbr on the fewest ranks."""
    series = {}
    for point in points:
        if point.setup.architecture == "bsbr":
            series.setdefault((point.setup.ranks, point.setup.length), {})[point.setup.chunk_size] = point
    series = {key: group for key, group in series.items() if len(group) > 2}
    fewest = min((ranks for ranks, _ in series), default=0)
    return {length: [group[size] for size in sorted(group)] for (ranks, length), group in sorted(series.items()) if ranks == fewest}


# ---- parts of figures -----------------------------------------------------------------------------------------------------------------


def panels(count, title, foot, height=3.1, width=5.8):
    """A figure with axes side by side, a title, and what was run at its foot."""
    figure, grid = panel_grid(1, count, title, foot, height, width)
    return figure, grid[0]


def panel_grid(rows, columns, title, foot, height, width=5.8):
    figure = new_figure(width, height)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.text(0.01, 0.985, title, ha="left", va="top", fontsize=FONT + 1, weight="bold")
    figure.text(0.01, 0.012, foot, ha="left", va="bottom", fontsize=SMALL, color="#555555")
    for each in grid.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="#e4e4e4", linewidth=0.6)
    return figure, grid


def place(figure, left=0.11, right=0.98, bottom=0.19, top=0.83, between=0.3):
    figure.subplots_adjust(left, bottom, right, top, between)


def about(point):
    setup = point.setup
    return (f"{counted(setup.num_layers, 'layer')} of width {setup.hidden_dim}, {counted(setup.num_heads, 'head')}, ff {setup.ff_dim}, "
            f"{setup.precision}, batch {setup.batch}")


def rank_axis(axes, ranks):
    axes.set_xscale("log", base=2)
    axes.set_xlabel("ranks")
    axes.xaxis.set_major_locator(FixedLocator(sorted(ranks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def blank_touching_labels(axes):
    """Leaves out labels of a log axis of ranks that have no room beside the next larger one; their ticks stay."""
    low, high = axes.get_xlim()
    inches = axes.get_position().width * axes.figure.get_size_inches()[0] / math.log(high / low)  # of a factor e
    texts, room_ends = [], math.inf
    for ranks in reversed(axes.get_xticks()):
        text, center = f"{ranks:,.0f}", math.log(ranks / low) * inches
        half = text_width(axes.figure, text, FONT) / 2
        fits = center + half + 0.06 <= room_ends
        texts.append(text if fits else "")
        room_ends = center - half if fits else room_ends
    axes.xaxis.set_major_formatter(FixedFormatter(texts[::-1]))


def as_points(style):
    return {**line_style(style), "linestyle": "none"}


def as_line(style, color=None):
    return dict(color=color or style.color, linewidth=1.3, linestyle=(0, style.dashes) if style.dashes else "-")


def draw_measured(axes, points, x, y, style):
    """Points; pale if other processes disturbed the run."""
    for point, *where in zip(points, x, y):
        axes.plot(*where, **as_points(style), alpha=PALE if disturbed(point.run) else 1, zorder=3)


def footnote(points):
    """What was run, and which runs other processes disturbed."""
    return about(points[0]) + ("; pale: disturbed by other processes" if any(disturbed(point.run) for point in points) else "")


KINDS = (Line2D([], [], color=INK, marker="o", linestyle="none", label="measured"), Line2D([], [], color=INK, label="modelled"))


def shade_shared_cores(axes, points):
    """Grey where ranks share cores, so that more of them cannot be faster. Whether there is such a place."""
    shared = [point.setup.ranks for point in points if point.setup.ranks * point.setup.threads_per_rank > point.cores]
    own = [point.setup.ranks for point in points if point.setup.ranks * point.setup.threads_per_rank <= point.cores]
    if shared and own:
        low, high = (max(own) * min(shared)) ** 0.5, max(shared) * 1.15
        axes.axvspan(low, high, facecolor="#f0f0f0", zorder=0)
        axes.set_xlim(right=high)
    return bool(shared and own)


# ---- pictures -------------------------------------------------------------------------------------------------------------------------


def relative(values):
    return [value / values[0] for value in values]


def draw_speedup(series):
    """Time and speed-up of strong scaling against ranks, log-log, with the ideal lines."""
    every = [point for points in series.values() for point in points]
    foot, most = f"thin grey: ideal; {about(every[0])}", max(point.setup.ranks for point in every)
    lines = {name: ([point.setup.ranks for point in points], [point.summary["seconds"] for point in points]) for name, points in series.items()}
    figure, all_axes = time_and_speedup(f"Strong scaling: {every[0].setup.length:,} tokens in total", foot, lines, STYLES,
                                        lambda speedup, ranks: f"{speedup:.2f}×", f"on {counted(most, 'rank')}")
    shaded = [shade_shared_cores(axes, every) for axes in all_axes]
    add_notes(figure, "grey area: more threads than cores" if any(shaded) else "",
              "other processes disturbed some runs" if any(disturbed(point.run) for point in every) else "")
    return figure


def draw_far(cluster, points):
    """Modelled only: time and speed-up for a very long sequence, up to very many ranks."""
    like, errors = far_setup("bsbr", 1), errors_of(undisturbed(points))
    lines = {name: (FAR_RANKS, [predict(cluster, far_setup(name, ranks))["seconds"] for ranks in FAR_RANKS]) for name in ARCHITECTURES}
    styles = {name: dataclasses.replace(style, marker="") for name, style in STYLES.items()}
    foot = (f"one thread per rank, {cluster.latency * 1e6:g} µs per message, {cluster.bandwidth / 1e9:g} GB/s per rank; "
            f"{like.num_layers} layers of width {like.hidden_dim}; bsbr in chunks of {like.chunk_size:,}")
    figure, _ = time_and_speedup(f"Modelled, not measured: {FAR_TOKENS:,} tokens", foot, lines, styles,
                                 lambda speedup, ranks: f"{speedup / ranks:.0%}", "efficiency")
    add_notes(figure, f"rates of {cluster.processor or 'one node'}; "
              f"error of the model on {counted(len(errors), 'run')} there: median {statistics.median(errors):.1%}, largest {max(errors):.1%}")
    return figure


def time_and_speedup(title, foot, lines, styles, text_of, heading):
    """Two log-log panels. lines: architecture -> (ranks, seconds). text_of(speed-up, ranks): what stands beside a name at the right."""
    width, height = 7.4, 3.5
    figure, (time, speedup) = panels(2, title, foot, height, width)
    right = 0.62 + max(text_width(figure, name, FONT) for name in lines) + 0.1 + text_width(figure, heading, FONT)  # inches of the labels
    figure.subplots_adjust(0.85 / width, 0.8 / height, 1 - (right + 0.08) / width, 1 - 0.5 / height, 0.42)
    every = sorted({count for ranks, _ in lines.values() for count in ranks})
    ratios = {name: (ranks, [seconds[0] / value for value in seconds]) for name, (ranks, seconds) in lines.items()}
    for axes, curves, power in ((time, lines, -1), (speedup, ratios, 1)):
        for name, (ranks, values) in curves.items():
            axes.plot(ranks, [values[0] * (count / ranks[0]) ** power for count in ranks], color="#999999", linewidth=0.7, zorder=1)
            axes.plot(ranks, values, **line_style(styles[name]), zorder=3 - styles[name].width / 100)
        rank_axis(axes, every if len(every) < 6 else every[::2])
        blank_touching_labels(axes)
        y_limits = limits([[*axes.dataLim.intervaly]], 0.05)
        set_axis(axes.yaxis, y_limits, "time of a forward" if axes is time else "speed-up",
                 decimal_ticks(show_seconds)(*y_limits) if axes is time else powers_of_two(*y_limits))
    if time.get_ylim()[1] > 600:
        set_long_ticks(time)
    ends = {name: (ranks[-1], values[-1]) for name, (ranks, values) in ratios.items()}
    texts = [(name, text_of(values[-1], ranks[-1] / ranks[0])) for name, (ranks, values) in ratios.items()]
    label_ends(speedup, list(lines), styles, ends, {name: math.log(end[1]) for name, end in ends.items()}, texts, right)
    speedup.annotate(heading, (1, 1), (right * 72, 4), "axes fraction", "offset points", ha="right", va="bottom", fontsize=FONT, style="italic")
    return figure, (time, speedup)


def powers_of_two(low, high):
    values = [2.0**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    values = values[:: math.ceil(len(values) / 7)]
    return values, [f"{value:,.10g}" for value in values]


def set_long_ticks(axes):
    """Times of up to months."""
    low, high = axes.get_ylim()
    positions = [value for value in (1, 10, 60, 600, 3600, 86400, 864000, 8640000) if low <= value <= high]
    axes.yaxis.set_major_locator(FixedLocator(positions))
    axes.yaxis.set_major_formatter(FixedFormatter([show_long(value) for value in positions]))


def add_notes(figure, *notes):
    """Above the line at the foot."""
    text = "; ".join(filter(None, notes))
    figure.text(0.01, 0.012 + 1.5 * SMALL / 72 / figure.get_size_inches()[1], text, ha="left", va="bottom", fontsize=SMALL, color="#555555")


STUDY_STYLES = {"strong": STYLES["linear"], "weak": STYLES["bsbr"]}


def draw_efficiency(curves):
    """A small panel for each architecture, with both studies, measured and modelled."""
    curves = {study: series for study, series in curves.items() if series}
    names = [name for name in ARCHITECTURES if any(name in series for series in curves.values())]
    every = [point for series in curves.values() for points in series.values() for point in points]
    columns = min(4, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure, grid = panel_grid(rows, columns, "Efficiency: tokens per second and core, relative to the fewest ranks", footnote(every),
                              height=1 + 1.45 * rows, width=6.4)
    add_notes(figure, *(tokens_of(study, next(iter(series.values()))[0]) for study, series in curves.items()))
    shaded = False
    for index, name in enumerate(names):
        axes = grid[index // columns][index % columns]
        for study, series in curves.items():
            if name in series:
                draw_efficiency_of(axes, series[name], dataclasses.replace(STUDY_STYLES[study], width=1.5, size=6))
        points = [point for series in curves.values() for point in series.get(name, ())]
        rank_axis(axes, {point.setup.ranks for point in points})
        shaded |= shade_shared_cores(axes, points)
        axes.set_ylim(0, 1.28)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(name, fontsize=FONT, loc="left")
        axes.set_xlabel("ranks" if index + columns > len(names) else "")
        axes.set_ylabel("efficiency" if index % columns == 0 else "")
        axes.tick_params(labelleft=index % columns == 0)
    for spare in list(grid.flat)[len(names):]:
        spare.axis("off")
    handles = [handle for study in curves for handle in efficiency_handles(study)]
    handles += [Patch(facecolor="#f0f0f0", label="threads > cores")] if shaded else []
    grid.flat[len(names)].legend(handles=handles, loc="center left", bbox_to_anchor=(-0.12, 0.45), fontsize=SMALL, frameon=False,
                                 handlelength=2.4)
    height = figure.get_size_inches()[1]
    figure.subplots_adjust(0.105, 0.76 / height, 0.985, 1 - 0.5 / height, 0.14, 0.42)
    return figure


def draw_efficiency_of(axes, points, style):
    """Markers and a line: measured; dashes: modelled."""
    ranks = [point.setup.ranks for point in points]
    measured = relative([point.rate(point.summary["seconds"]) for point in points])
    axes.plot(ranks, relative([point.rate(point.model["seconds"]) for point in points]), color=style.color, linewidth=1, linestyle=(0, (3, 2)),
              zorder=2)
    axes.plot(ranks, measured, color=style.color, linewidth=style.width, zorder=2)
    draw_measured(axes, points, ranks, measured, style)


def efficiency_handles(study):
    style = dataclasses.replace(STUDY_STYLES[study], width=1.5, size=6, dashes=())
    yield Line2D([], [], label=f"{study}, measured", **line_style(style))
    yield Line2D([], [], label=f"{study}, modelled", color=style.color, linewidth=1, linestyle=(0, (3, 2)))


def tokens_of(study, first):
    return f"strong: {first.setup.length:,} tokens in total" if study == "strong" else (
        f"weak: {first.setup.length // first.setup.ranks:,} tokens per rank")


def draw_phases(study, name, points):
    """Bars of time by phase: measured, and beside it modelled."""
    starred = "; *: disturbed by other processes" if any(disturbed(point.run) for point in points) else ""
    figure, (axes,) = panels(1, f"Time by phase, {study} scaling of {name}", about(points[0]) + starred, width=6.6, height=3.4)
    seen = set()
    for index, point in enumerate(points):
        for offset, phases, alpha in ((-0.2, measured_phases(point), 1), (0.2, point.model["seconds_by_phase"], 0.45)):
            bottom = 0
            for phase in [phase for phase in (*PHASES, OTHER) if phases.get(phase, 0) > 0]:
                face, hatch = PHASE_LOOKS[phase]
                axes.bar(index + offset, phases[phase], 0.36, bottom, color=face, alpha=alpha, hatch=hatch, edgecolor=INK, linewidth=0.4)
                bottom += phases[phase]
                if phases[phase] > 0.005 * point.summary["seconds"]:
                    seen.add(phase)
            axes.text(index + offset, bottom, show_seconds(bottom), ha="center", va="bottom", fontsize=SMALL)
    axes.set_xticks([index + offset for index in range(len(points)) for offset in (-0.2, 0.2)],
                    [text for point in points for text in ("measured" + "*" * disturbed(point.run), "modelled")], fontsize=SMALL)
    for index, point in enumerate(points):
        shared = " on %d cores" % point.cores if point.setup.ranks * point.setup.threads_per_rank > point.cores else ""
        threads = "" if point.setup.threads_per_rank == 1 else f" × {point.setup.threads_per_rank} threads"
        axes.annotate(f"{counted(point.setup.ranks, 'rank')}{threads}{shared}", (index, 0), (0, -21),
                      xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", va="top", fontsize=FONT)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_seconds(value) if value else "0"))
    axes.set_ylim(top=axes.get_ylim()[1] * 1.05)
    handles = [Patch(facecolor=PHASE_LOOKS[phase][0], hatch=PHASE_LOOKS[phase][1], edgecolor=INK, linewidth=0.4, label=phase)
               for phase in reversed((*PHASES, OTHER)) if phase in seen]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL + 0.5, frameon=False, handleheight=1.6,
                handlelength=2.4)
    place(figure, right=0.79, bottom=0.22, top=0.88)
    return figure


def measured_phases(point):
    phases = dict(point.summary["seconds_by_phase"])
    return {**phases, OTHER: max(0, point.summary["seconds"] - sum(phases.values()))}


def draw_bytes(curves):
    """What the busiest rank sends in a forward, by transfer."""
    curves = {study: series for study, series in curves.items() if series}
    some = next(iter(next(iter(curves.values())).values()))[0]
    figure, all_axes = panels(len(curves), "Bytes that the busiest rank sends in one forward", about(some), height=3.5)
    lines = {}
    for axes, (study, series) in zip(all_axes, curves.items()):
        ranks = set()
        for name, points in series.items():
            points = [point for point in points if point.setup.ranks > 1]
            for transfer in sorted({key for point in points for key in point.model["bytes_sent"]} - {"total"}):
                kept = [point for point in points if point.model["bytes_sent"].get(transfer)]
                if not kept:
                    continue
                style = STYLES[name] if transfer != "retrieval_vectors" else dataclasses.replace(STYLES[name], marker="*", filled=False)
                x = [point.setup.ranks for point in kept]
                axes.plot(x, [point.model["bytes_sent"][transfer] / KIB for point in kept], **as_line(style), zorder=2)
                axes.plot(x, [point.summary["bytes_sent"].get(transfer, 0) / KIB for point in kept], **as_points(style), zorder=3)
                lines[f"{name}: {transfer}"] = style
                ranks |= set(x)
        rank_axis(axes, ranks)
        axes.set_title(study, fontsize=FONT, loc="left")
    y_limits = limits([axes.dataLim.intervaly for axes in all_axes], 0.06)
    for axes in all_axes:
        set_axis(axes.yaxis, y_limits, "KiB" if axes is all_axes[0] else "", powers_of_two(*y_limits))
    handles = [*(Line2D([], [], label=label, **line_style(style)) for label, style in lines.items()), *KINDS]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.05), ncol=3, fontsize=SMALL + 0.5, frameon=False,
                  handlelength=3)
    place(figure, left=0.135, bottom=0.38, top=0.84, between=0.3)
    return figure


def draw_errors(points):
    """Modelled against measured time of every run, and the band of ±15 %."""
    quiet = undisturbed(points)
    pale = len(points) - len(quiet)
    foot = "grey band: ±15 %" + (f"; pale: {pale} of {len(points)} runs, disturbed by other processes" if pale else "")
    title = f"Model against {counted(len(quiet), 'run')}: median error {statistics.median(errors_of(quiet)):.1%}"
    figure, (axes,) = panels(1, title, foot, width=4.6, height=3.9)
    place(figure, left=0.18, bottom=0.17, top=0.89)
    for point in points:
        alpha = 1 if point in quiet else PALE
        axes.plot(point.summary["seconds"], point.model["seconds"], **as_points(STYLES[point.setup.architecture]), alpha=alpha,
                  zorder=2 + alpha)
    names = [name for name in ARCHITECTURES if any(point.setup.architecture == name for point in points)]
    handles = [Line2D([], [], label=name, **as_points(STYLES[name])) for name in names]
    low, high = limits([[time for point in points for time in (point.summary["seconds"], point.model["seconds"])]], 0.06)
    axes.fill_between([low, high], [0.85 * low, 0.85 * high], [1.15 * low, 1.15 * high], color="#dddddd", linewidth=0, zorder=0)
    axes.plot([low, high], [low, high], color="#777777", linewidth=0.8, zorder=1)
    ticks = decimal_ticks(show_seconds)(low, high)
    for axis, label in ((axes.xaxis, "measured"), (axes.yaxis, "modelled")):
        set_axis(axis, (low, high), label, ticks)
    axes.legend(handles=handles, fontsize=SMALL + 0.5, frameon=False, loc="upper left")
    return figure


def draw_chunks(by_length, machine_of):
    """Time per token of bsbr against the chunk size, for each length; arrows mark the rule of thumb."""
    lengths = list(by_length)
    first = by_length[lengths[0]][0]
    where = f"ranks × threads {first.setup.ranks} × {first.setup.threads_per_rank}"
    foot = f"{where}; {footnote([point for points in by_length.values() for point in points])}"
    figure, (axes,) = panels(1, "Time per token against chunk size, bsbr", foot, width=6, height=3.6)
    styles = [*STYLES.values()] * len(lengths)
    for length, style in zip(lengths, styles):
        points = by_length[length]
        sizes = [point.setup.chunk_size for point in points]
        machine = machine_of(points[0].run)
        dense = sorted({*sizes, *(size * 3 // 2 for size in sizes[:-1])})
        modelled = [predict(machine, dataclasses.replace(points[0].setup, chunk_size=size))["seconds"] / length for size in dense]
        axes.plot(dense, modelled, **as_line(style), zorder=2)
        draw_measured(axes, points, sizes, [point.summary["seconds"] / length for point in points], style)
        thumb = round((length * points[0].setup.head_dim) ** (1 / 3))
        at = predict(machine, dataclasses.replace(points[0].setup, chunk_size=thumb))["seconds"] / length
        axes.annotate("", (thumb, at), (0, -24), textcoords="offset points", zorder=1,
                      arrowprops=dict(arrowstyle="-|>", color=style.color, linewidth=1.2, shrinkB=3))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(bottom=axes.get_ylim()[0] * 0.9)  # room for the arrows
    every = sorted({point.setup.chunk_size for points in by_length.values() for point in points})
    axes.xaxis.set_major_locator(FixedLocator(every))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator(even_ticks(*axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1e6 * value:.0f} µs"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(r"tokens in a chunk;  arrows: $B = (L\,d)^{1/3}$")
    axes.set_ylabel("time per token")
    of_length = [Line2D([], [], label=f"{length:,} tokens", **as_points(style)) for length, style in zip(lengths, styles)]
    axes.legend(handles=[*of_length, *KINDS], fontsize=SMALL + 0.5, frameon=False, loc="upper right", ncol=2)
    place(figure, left=0.15, bottom=0.2, top=0.88)
    return figure


def show_long(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def far_setup(architecture, ranks):
    """A very long sequence in a model of the default size."""
    setup = Setup(architecture, FAR_TOKENS, ranks=ranks, num_heads=heads_of(architecture, Setup.num_heads))
    if "mixing" in setup.traits.phases:
        return dataclasses.replace(setup, chunk_size=rule_of_thumb(setup))
    return setup
