"""The pictures of plot_training.py: matplotlib figures of TrainingLogs (training_log.py).

Each has the runs' curves twice: against steps and against tokens. No picture needs colour: runs differ in their lines, and have names.
"""
import itertools
import math

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from comparison_data import show_count
from comparison_plots import FONT, OTHER_STYLES, SMALL, STYLES, fitting, new_figure, save, set_up, with_texts

__all__ = ["pictures", "save"]

# quantity -> title, label, scale of the axis, whether it scatters from step to step and has a mean.
PICTURES = {
    "loss": ("Loss of each step", "loss, nats a token", "linear", True),
    "validation_loss": ("Loss of the validation data", "loss, nats a token", "linear", False),
    "gradient_norm": ("Norm of the gradient, before clipping", "norm", "log", True),
    "learning_rate": ("Learning rate", "rate", "linear", False),
    "tokens_per_second": ("Tokens a second", "tokens a second", "linear", True),
}
MEAN = 50  # windows of the running mean in a run; shorter runs are drawn as they are
WIDTH, PANEL, LINE = 7.2, 2.9, 0.17  # inches: of a figure, the height of its axes, that of a name


def pictures(logs):
    """Yields name and figure, of what any of the logs has."""
    set_up()
    for quantity in PICTURES:
        having = [log for log in logs if quantity in log.values]
        if having:
            yield quantity, draw(having, quantity, styles_of(logs))


def styles_of(logs):
    """name -> colour and dashes."""
    styles = itertools.cycle([*STYLES.values(), *OTHER_STYLES])
    return {log.name: dict(color=style.color, linestyle=(0, style.dashes) if style.dashes else "-") for log, style in zip(logs, styles)}


def draw(logs, quantity, styles):
    title, label, _, scatters = PICTURES[quantity]
    scale = scale_of(logs, quantity)
    smooth = scatters and any(is_smoothed(log) for log in logs)
    panels = [by for by in ("steps", "tokens") if any(getattr(log, by) for log in logs)]
    height = PANEL + 0.95 + LINE * len(logs)
    figure = new_figure(WIDTH, height)
    note = f"pale: each step; lines: means of 1/{MEAN} of a run" if smooth else ""
    figure.text(0.08 / WIDTH, 1 - 0.06 / height, title, ha="left", va="top", fontsize=FONT + 1, weight="bold")
    figure.text(1 - 0.08 / WIDTH, 1 - 0.08 / height, note, ha="right", va="top", fontsize=SMALL, color="#555555")
    name_runs(figure, logs, styles, 0.36)
    first = None
    for index, by in enumerate(panels):
        width = (WIDTH - 0.75 - 0.3 - 0.25 * (len(panels) - 1)) / len(panels)
        left = 0.75 + index * (width + 0.25)
        axes = figure.add_axes([left / WIDTH, 0.5 / height, width / WIDTH, PANEL / height], sharey=first)
        draw_panel(axes, [log for log in logs if getattr(log, by)], quantity, by, styles, scale)
        axes.yaxis.set_tick_params(labelleft=index == 0)
        if index == 0:
            axes.set_ylabel(label)
        first = first or axes
    set_limits(first, [log.values[quantity] for log in logs], scale, quantity)
    return figure


def name_runs(figure, logs, styles, top):
    """The runs' names with samples of their lines, one below the other, `top` inches from the top."""
    width, height = figure.get_size_inches()
    for index, log in enumerate(logs):
        y = 1 - (top + LINE * (index + 0.5)) / height
        figure.add_artist(Line2D([0.12 / width, 0.62 / width], [y, y], linewidth=1.8, **styles[log.name]))
        text = fitting(figure, log.name.replace("$", r"\$"), width - 1.2)
        figure.text(0.72 / width, y, text, ha="left", va="center_baseline", fontsize=FONT)


def scale_of(logs, quantity):
    """"linear" where nothing could be drawn on the logarithmic axis of the table."""
    return PICTURES[quantity][2] if any(value > 0 for log in logs for value in log.values[quantity]) else "linear"


def show_tick(value, _):
    return with_texts([value], show_count)[1][0]


def draw_panel(axes, logs, quantity, by, styles, scale):
    scatters = PICTURES[quantity][3]
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_xlabel(by)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(show_tick))
    axes.set_yscale(scale)
    if quantity == "tokens_per_second":
        axes.yaxis.set_major_formatter(FuncFormatter(show_tick))
    for log in logs:
        x, y = known(*log.curve(quantity, by))
        style = styles[log.name]
        if scatters and is_smoothed(log):
            axes.plot(x, y, color=style["color"], linewidth=0.5, alpha=0.3)
            axes.plot(*running_mean(x, y), linewidth=1.8, zorder=3, **style)
        else:
            axes.plot(x, y, linewidth=1.8, marker="o" if len(x) <= 40 else None, markersize=3, zorder=3, **style)


def set_limits(axes, columns, scale, quantity):
    """The y axis: around all values; from 0 on where these are shares of something."""
    values = sorted(value for column in columns for value in column if not math.isnan(value) and (scale != "log" or value > 0))
    if not values:
        return
    low, high = values[0], values[-1]
    if scale == "log":
        axes.set_ylim(low / 1.3, high * 1.3)
    elif quantity in ("tokens_per_second", "learning_rate"):
        axes.set_ylim(0, high * 1.08 or 1)
    else:
        room = 0.05 * (high - low) or 0.05 * high or 1
        axes.set_ylim(low - room, high + room)


def is_smoothed(log):
    return len(log.steps) >= 4 * MEAN


def known(x, y):
    """Without the places that have no value."""
    pairs = [(u, v) for u, v in zip(x, y) if not math.isnan(v)]
    return [u for u, _ in pairs], [v for _, v in pairs]


def running_mean(x, y):
    """Means of as many values as a window has, each at the mean place."""
    count = max(1, len(x) // MEAN)
    starts = range(0, len(x) - count + 1, max(1, count // 2))
    return [mean(x[start:start + count]) for start in starts], [mean(y[start:start + count]) for start in starts]


def mean(values):
    return sum(values) / len(values)
