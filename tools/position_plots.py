"""The picture of loss against position: a matplotlib figure of PositionLosses (position_losses.py)."""
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from comparison_plots import FONT, new_figure, set_up
from training_plots import LINE, name_runs, styles_of

WIDTH, HEIGHT = 5.6, 3.4  # inches: of the figure, of its axes


def pictures(runs):
    """Yields name and figure."""
    set_up()
    yield "loss_by_position", draw(runs)


def draw(runs):
    height = HEIGHT + 0.95 + LINE * len(runs)
    figure, styles = new_figure(WIDTH, height), styles_of(runs)
    figure.text(0.08 / WIDTH, 1 - 0.06 / height, "Loss against the length of the context", ha="left", va="top", fontsize=FONT + 1,
                weight="bold")
    name_runs(figure, runs, styles, 0.36)
    axes = figure.add_axes([0.7 / WIDTH, 0.5 / height, 1 - 0.85 / WIDTH, HEIGHT / height])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set(xscale="log", xlabel="tokens seen", ylabel="loss, bits a token")
    axes.xaxis.set_major_locator(LogLocator(base=4, numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for run in runs:
        axes.plot(run.places(), run.bits, linewidth=1.8, **styles[run.name])
    # The first tokens are guessed, whatever the model: what they cost would leave the rest no room.
    late = [bits for run in runs for place, bits in zip(run.places(), run.bits) if place >= 8] or [bits for run in runs for bits in run.bits]
    room = 0.06 * (max(late) - min(late)) or 0.1
    axes.set_ylim(min(late) - room, max(late) + room)
    return figure
