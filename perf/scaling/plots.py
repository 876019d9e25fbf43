"""The pictures of `scaling.py draw`. Measured values are points or full bars, modelled ones lines or pale bars; no picture needs colour."""
import dataclasses
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter  # noqa: E402

from comparison_data import show_bytes, show_seconds  # noqa: E402
from comparison_plots import FONT, INK, SMALL, STYLES, line_style, new_figure, save, set_up  # noqa: E402
from model import PHASES, predict, rule_of_thumb  # noqa: E402
from setups import ARCHITECTURES, Setup  # noqa: E402
from study import BAD_OUTPUT, Failure, disturbed  # noqa: E402

PALE = 0.3  # opacity of runs that were disturbed
FAR_TOKENS, FAR_RANKS = 1 << 24, tuple(2**n for n in range(11))
MOVEMENT_STYLES = {"states": "bsbr", "retrieval_vectors": "sliding_window", "heads": "standard", "halo": "linear", "state": "gau"}
OTHER = "other"  # of a run: what is in no phase
PHASE_LOOKS = {  # face, hatch
    "project": ("#56B4E9", ""), "finish": ("#0072B2", ""), "states": ("#F0E442", "///"), "within_chunk": ("#E69F00", ".."),
    "mixing": ("#D55E00", "xxx"), "retrieval": ("#F0E442", "\\\\\\"), "attention": ("#E69F00", "xx"), "scan": ("#E69F00", "++"),
    "embedding": ("#CCCCCC", ""), "final_norm": ("#999999", ""), "exchange": ("#CC79A7", "oo"), "agreement": ("#FFFFFF", "xx"), OTHER: ("#FFFFFF", "--"),
}


def write(runs, machine_of, cluster, folder):
    """All pictures that the runs give, as PNG and SVG -> their names. machine_of(run) -> Machine; cluster: the one to extrapolate to."""
    set_up()
    names = []
    try:
        os.makedirs(folder, exist_ok=True)
        for name, figure in pictures(runs, machine_of, cluster):
            for kind in ("png", "svg"):
                save(figure, os.path.join(folder, f"{name}.{kind}"))
            names.append(name)
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"{folder}: the output cannot be written: {error.strerror or error}") from None
    return names


def pictures(runs, machine_of, cluster):
    points = [Point(run, Setup.of(run["summary"]), predict(machine_of(run), Setup.of(run["summary"]))) for run in runs]
    curves = {study: series_of(points, study) for study in ("strong", "weak")}
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
    yield "scaling_far", draw_far(cluster)


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
        """Tokens in a second on each core in use."""
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
    figure = new_figure(width, height)
    axes = figure.subplots(1, count, squeeze=False)[0]
    figure.text(0.01, 0.985, title, ha="left", va="top", fontsize=FONT + 1, weight="bold")
    figure.text(0.01, 0.012, foot, ha="left", va="bottom", fontsize=SMALL, color="#555555")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="#e4e4e4", linewidth=0.6)
    return figure, axes


def place(figure, left=0.11, right=0.98, bottom=0.19, top=0.83, between=0.3):
    figure.subplots_adjust(left, bottom, right, top, between)


def about(point):
    setup = point.setup
    return (f"{setup.num_layers} layers of width {setup.hidden_dim}, {setup.num_heads} heads, ff {setup.ff_dim}, {setup.precision}, "
            f"batch {setup.batch}")


def rank_axis(axes, ranks):
    axes.set_xscale("log", base=2)
    axes.set_xlabel("ranks")
    axes.xaxis.set_major_locator(FixedLocator(sorted(ranks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def as_points(style):
    return {**line_style(style), "linestyle": "none"}


def as_line(style, color=None):
    return dict(color=color or style.color, linewidth=1.3, linestyle=(0, style.dashes) if style.dashes else "-")


def draw_measured(axes, points, x, y, style):
    """Points; pale where others on the machine disturbed the run."""
    for point, *where in zip(points, x, y):
        axes.plot(*where, **as_points(style), alpha=PALE if disturbed(point.run) else 1, zorder=3)


def footnote(points):
    """What a reader must know of the runs."""
    return about(points[0]) + ("; pale: disturbed by others" if any(disturbed(point.run) for point in points) else "")


def measured_and_modelled(axes, **where):
    handles = [Line2D([], [], color=INK, marker="o", linestyle="none", label="measured"), Line2D([], [], color=INK, label="modelled")]
    axes.add_artist(axes.legend(handles=handles, fontsize=SMALL + 0.5, frameon=False, **where))


# ---- pictures -------------------------------------------------------------------------------------------------------------------------


def relative(values):
    return [value / values[0] for value in values]


def draw_efficiency(curves):
    curves = {study: series for study, series in curves.items() if series}
    every = [point for series in curves.values() for points in series.values() for point in points]
    figure, all_axes = panels(len(curves), "Efficiency: tokens per second and core, against the fewest ranks", footnote(every), height=3.5)
    for axes, (study, series) in zip(all_axes, curves.items()):
        for name, points in series.items():
            ranks = [point.setup.ranks for point in points]
            axes.plot(ranks, relative([point.rate(point.model["seconds"]) for point in points]), **as_line(STYLES[name]), zorder=2)
            draw_measured(axes, points, ranks, relative([point.rate(point.summary["seconds"]) for point in points]), STYLES[name])
        most = [point for points in series.values() for point in points]
        rank_axis(axes, {point.setup.ranks for point in most})
        shade_shared_cores(axes, most)
        axes.set_ylim(0, max(1.25, axes.get_ylim()[1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        first = most[0].setup
        amount = f"{first.length:,} tokens in all" if study == "strong" else f"{first.length // first.ranks:,} tokens a rank"
        axes.set_title(f"{study}: {amount}", fontsize=FONT, loc="left")
    handles = [Line2D([], [], label=name, **line_style(STYLES[name])) for name in ARCHITECTURES if any(name in s for s in curves.values())]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.05), ncol=4, fontsize=SMALL + 0.5, frameon=False,
                  handlelength=3)
    measured_and_modelled(all_axes[0], loc="lower left")
    place(figure, bottom=0.3, top=0.82)
    return figure


def shade_shared_cores(axes, points):
    """Where ranks share cores, only their work together says something."""
    shared = [point.setup.ranks for point in points if point.setup.ranks * point.setup.threads_per_rank > point.cores]
    own = [point.setup.ranks for point in points if point.setup.ranks * point.setup.threads_per_rank <= point.cores]
    if shared and own:
        low, high = (max(own) * min(shared)) ** 0.5, max(shared) * 1.15
        axes.axvspan(low, high, facecolor="#f0f0f0", zorder=0)
        axes.text(low * 1.03, 0.03, "ranks share\ncores", fontsize=SMALL, color="#555555", va="bottom", transform=axes.get_xaxis_transform())
        axes.set_xlim(right=high)


def draw_phases(study, name, points):
    """Bars of time by phase: measured, and beside it modelled."""
    starred = "; *: disturbed by others on the machine" if any(disturbed(point.run) for point in points) else ""
    figure, (axes,) = panels(1, f"Time by phase, {study} scaling of {name}", about(points[0]) + starred, width=5.8, height=3.4)
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
        axes.annotate(f"{point.setup.ranks} rank{'s' * (point.setup.ranks > 1)}{threads}{shared}", (index, 0), (0, -21),
                      xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", va="top", fontsize=FONT)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_seconds(value) if value else "0"))
    axes.set_ylim(top=axes.get_ylim()[1] * 1.05)
    handles = [Patch(facecolor=PHASE_LOOKS[phase][0], hatch=PHASE_LOOKS[phase][1], edgecolor=INK, linewidth=0.4, label=phase)
               for phase in reversed((*PHASES, OTHER)) if phase in seen]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL + 0.5, frameon=False, handleheight=1.6,
                handlelength=2.4)
    place(figure, right=0.77, bottom=0.22, top=0.88)
    return figure


def measured_phases(point):
    phases = dict(point.summary["seconds_by_phase"])
    return {**phases, OTHER: max(0, point.summary["seconds"] - sum(phases.values()))}


def draw_bytes(curves):
    """What the busiest rank sends in a forward, by movement; of each architecture the movement that it has most of."""
    curves = {study: series for study, series in curves.items() if series}
    some = next(iter(next(iter(curves.values())).values()))[0]
    figure, all_axes = panels(len(curves), "Bytes that the busiest rank sends in one forward", about(some), height=3.5)
    lines = {}
    for axes, (study, series) in zip(all_axes, curves.items()):
        ranks = set()
        for name, points in series.items():
            points = [point for point in points if point.setup.ranks > 1]
            for movement in sorted({key for point in points for key in point.model["bytes_sent"]} - {"total"}):
                kept = [point for point in points if point.model["bytes_sent"].get(movement)]
                if not kept:
                    continue
                style = STYLES[name] if movement != "retrieval_vectors" else dataclasses.replace(STYLES[name], marker="*", filled=False)
                x = [point.setup.ranks for point in kept]
                axes.plot(x, [point.model["bytes_sent"][movement] for point in kept], **as_line(style), zorder=2)
                axes.plot(x, [point.summary["bytes_sent"].get(movement, 0) for point in kept], **as_points(style), zorder=3)
                lines[f"{name}: {movement}"] = style
                ranks |= set(x)
        rank_axis(axes, ranks)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_bytes(value)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(study, fontsize=FONT, loc="left")
    handles = [Line2D([], [], label=label, **line_style(style)) for label, style in lines.items()]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.05), ncol=3, fontsize=SMALL + 0.5, frameon=False,
                  handlelength=3)
    measured_and_modelled(all_axes[-1], loc="best")
    place(figure, left=0.14, bottom=0.36, top=0.84, between=0.42)
    return figure


def draw_errors(points):
    """Modelled against measured time of every run, and the band of ±15 %."""
    quiet = [point for point in points if not disturbed(point.run)] or points
    errors = [abs(point.model["seconds"] / point.summary["seconds"] - 1) for point in quiet]
    foot = "grey band: ±15 %" + (f"; pale: {len(points) - len(quiet)} runs that others on the machine disturbed" if quiet != points else "")
    figure, (axes,) = panels(1, f"Model against {len(quiet)} runs: median error {statistics.median(errors):.1%}", foot, width=4.6, height=3.9)
    for point in points:
        alpha = 1 if point in quiet else PALE
        axes.plot(point.summary["seconds"], point.model["seconds"], **as_points(STYLES[point.setup.architecture]), alpha=alpha,
                  zorder=2 + alpha)
    names = [name for name in ARCHITECTURES if any(point.setup.architecture == name for point in points)]
    handles = [Line2D([], [], label=name, **as_points(STYLES[name])) for name in names]
    times = [time for point in points for time in (point.summary["seconds"], point.model["seconds"])]
    low, high = min(times) / 1.4, max(times) * 1.4
    axes.fill_between([low, high], [0.85 * low, 0.85 * high], [1.15 * low, 1.15 * high], color="#dddddd", linewidth=0, zorder=0)
    axes.plot([low, high], [low, high], color="#777777", linewidth=0.8, zorder=1)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured", ylabel="modelled")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: show_seconds(value)))
        axis.set_minor_locator(NullLocator())
    axes.legend(handles=handles, fontsize=SMALL + 0.5, frameon=False, loc="upper left")
    place(figure, left=0.18, bottom=0.17, top=0.89)
    return figure


def draw_chunks(by_length, machine_of):
    """Time of bsbr against the chunk size, for each length; an arrow marks B = (L·d)^(1/3)."""
    lengths = list(by_length)
    first = by_length[lengths[0]][0]
    where = f"ranks × threads {first.setup.ranks} × {first.setup.threads_per_rank}"
    foot = f"{where}; {footnote([point for points in by_length.values() for point in points])}"
    figure, (axes,) = panels(1, "Time of a token against chunk size, bsbr", foot, width=5.4, height=3.6)
    styles = [STYLES[name] for name in ("bsbr", "standard", "linear", "delta_net", "gau")] * len(lengths)
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatted(FuncFormatter(lambda value, _: f"{1e6 * value:.0f} µs"))
    axes.set_xlabel("tokens in a chunk;  arrows: B = (L·d)^(1/3)")
    kinds = [Line2D([], [], color=INK, marker="o", linestyle="none", label="measured"), Line2D([], [], color=INK, label="modelled")]
    of_length = [Line2D([], [], label=f"{length:,} tokens", **as_points(style)) for length, style in zip(lengths, styles)]
    axes.legend(handles=[*of_length, *kinds], fontsize=SMALL + 0.5, frameon=False, loc="upper right", ncol=2)
    place(figure, left=0.13, bottom=0.2, top=0.88)
    return figure


def draw_far(cluster):
    """Modelled only: time and efficiency for a very long sequence, up to very many ranks."""
    like = far_setup("bsbr", 1)
    foot = (f"modelled only: one thread a rank, {cluster.latency * 1e6:g} µs a message, {cluster.bandwidth / 1e9:g} GB/s a rank; "
            f"{like.num_layers} layers of width {like.hidden_dim}; bsbr in chunks of {like.chunk_size}")
    figure, (time, efficiency) = panels(2, f"Modelled: {FAR_TOKENS:,} tokens", foot, height=3.5)
    for name in ARCHITECTURES:
        seconds = [predict(cluster, far_setup(name, ranks))["seconds"] for ranks in FAR_RANKS]
        style = {**line_style(STYLES[name]), "markevery": (2 * ARCHITECTURES.index(name) % 5, 5)}
        time.plot(FAR_RANKS, seconds, **style)
        efficiency.plot(FAR_RANKS, [seconds[0] / ranks / value for ranks, value in zip(FAR_RANKS, seconds)], **style, label=name)
    for axes, text in ((time, "time of a forward"), (efficiency, "efficiency")):
        rank_axis(axes, FAR_RANKS[::2])
        axes.set_title(text, fontsize=FONT, loc="left")
    time.set_yscale("log")
    time.yaxis.set_major_locator(FixedLocator([1, 10, 60, 600, 3600, 86400, 864000, 8640000]))
    time.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show_long(value)))
    time.yaxis.set_minor_locator(NullLocator())
    efficiency.set_ylim(0, 1.1)
    efficiency.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(*efficiency.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 0.05), ncol=4, fontsize=SMALL + 0.5,
                  frameon=False, handlelength=3)
    place(figure, left=0.13, bottom=0.3, top=0.84)
    return figure


def show_long(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def far_setup(architecture, ranks):
    """A very long sequence in a model of the default size."""
    setup = Setup(architecture, FAR_TOKENS, ranks=ranks)
    if architecture == "bsbr":
        return dataclasses.replace(setup, chunk_size=rule_of_thumb(setup))
    return dataclasses.replace(setup, num_heads=1) if architecture == "gau" else setup
