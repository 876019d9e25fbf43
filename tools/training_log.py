"""The logs of bsbr_train: reading and checking. Used by plot_training.py."""
import dataclasses
import json
import math

from comparison_data import InputError, kind, number, show

LARGEST = 2**53  # up to here a double holds every integer

# Numbers of a step that may be drawn, each null where there is none: what they are called, and the least that they may be.
QUANTITIES = {"loss": 0, "validation_loss": 0, "gradient_norm": 0, "learning_rate": 0, "tokens_per_second": 0}


@dataclasses.dataclass
class TrainingLog:
    """One run. Losses in nats; tokens are those of all steps so far."""

    name: str
    steps: list  # rising
    tokens: list  # of each step; empty: the log does not say
    values: dict  # quantity -> a number or NaN for each step; only those of which there is one

    def curve(self, quantity, by):
        """The places on the axis `by`, "steps" or "tokens", and the values, two lists."""
        return getattr(self, by), self.values[quantity]


def load(path, name):
    """The TrainingLog in a file. Messages of the InputErrors do not name the file."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError("is not text", "write it with bsbr_train --log FILE") from None
    rest = lines.pop()  # without an end of line: it is still being written, or was never finished
    entries = [(f"line {index + 1}", read_line(line, f"line {index + 1}")) for index, line in enumerate(lines) if line.strip()]
    if not entries:
        raise InputError("has no whole line" if rest else "is empty", "write it with bsbr_train --log FILE")
    return TrainingLog(name, read_steps(entries), read_tokens(entries), read_values(entries))


def read_line(line, where):
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InputError(f"{where} is not JSON: {reason}", "write it with bsbr_train --log FILE") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where} holds {kind(entry)}, must be an object")
    return entry


def read_steps(entries):
    return rising(entries, "step", 1)


def read_tokens(entries):
    """Empty unless all lines have them."""
    return rising(entries, "tokens", 0) if all("tokens" in entry for _, entry in entries) else []


def rising(entries, field, least):
    values = []
    for where, entry in entries:
        value = entry.get(field)
        if field not in entry:
            raise InputError(f"{where}: {field} is missing, must be an integer from {least} on")
        if type(value) is not int or not least <= value <= LARGEST:
            raise InputError(f"{where}: {field} = {show(value)}, must be an integer from {least} on")
        if values and value <= values[-1]:
            raise InputError(f"{where}: {field} = {value}, must be above {values[-1]}, which the line before has")
        values.append(value)
    return values


def read_values(entries):
    values = {}
    for quantity, least in QUANTITIES.items():
        column = [read_value(entry, quantity, least, where) for where, entry in entries]
        if not all(math.isnan(value) for value in column):
            values[quantity] = column
    if not values:
        raise InputError(f"no line has a number of {', '.join(QUANTITIES)}")
    return values


def read_value(entry, quantity, least, where):
    """NaN where there is none, or none that is finite: the step of such a loss was not taken."""
    value = entry.get(quantity)
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return math.nan
    if number(value) is None or value < least:
        raise InputError(f"{where}: {quantity} = {show(value)}, must be a number from {least} on, or null")
    return float(value)
