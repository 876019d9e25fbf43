"""Losses by position, as bsbr_evaluate --by-position writes them: reading and checking. Used by analyze_results.py."""
import dataclasses

from comparison_data import LARGEST_LENGTH, InputError, listed, number, show

FORMAT, FORMAT_VERSION = "bsbr-loss-by-position", 1


@dataclasses.dataclass
class PositionLosses:
    """One evaluation: the mean loss of each range of positions."""

    name: str
    ranges: list  # (begin, end), rising: positions from begin to before end
    bits: list  # of each range, a token
    counted: list  # tokens of each range, of all sequences

    def places(self):
        """The middle of each range, counted from 1: how many tokens a token there has seen, with itself."""
        return [(begin + end + 1) / 2 for begin, end in self.ranges]


def read_losses(data, name):
    """The PositionLosses in an object of JSON. Ranges of which no token counted are left out."""
    if type(data.get("format_version")) is not int or data["format_version"] != FORMAT_VERSION:
        raise InputError(f"format_version = {show(data.get('format_version'))}, must be {FORMAT_VERSION}")
    losses = PositionLosses(name, [], [], [])
    end = 0
    for where, item in listed(data, "ranges"):
        begin, end = position(item, "begin", end, where), position(item, "end", item.get("begin", 0) + 1, where)
        if position(item, "counted", 0, where) == 0:
            continue
        bits = number(item.get("bits_per_token"))
        if bits is None or bits < 0:
            raise InputError(f"{where}: bits_per_token = {show(item.get('bits_per_token'))}, must be a number from 0 on")
        losses.ranges.append((begin, end))
        losses.bits.append(bits)
        losses.counted.append(item["counted"])
    if not losses.ranges:
        raise InputError("ranges has no token that counted")
    return losses


def position(item, field, least, where):
    value = item.get(field)
    if type(value) is not int or not least <= value <= LARGEST_LENGTH:
        raise InputError(f"{where}: {field} = {show(value)}, must be an integer from {least} on")
    return value
