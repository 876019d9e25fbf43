"""The JSON of bsbr_compare: reading, checking, fits of power laws, and how numbers are shown. Used by analyze_results.py.

numpy is loaded where it is needed: --help and complaints about bad input do without it.
"""
import dataclasses
import json
import math
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "python", "src"))
from bsbr_convert.architectures import ARCHITECTURES  # noqa: E402

FORMAT, FORMAT_VERSION = "bsbr-comparison", 1

# Numbers of a result, all above 0: those that must be there, and those that may be.
REQUIRED = ("seconds", "tokens_per_second", "memory_bytes", "parameters")
OPTIONAL = ("resident_bytes", "flops", "flops_per_second")
LARGEST_LENGTH = 2**53  # up to here a double holds every integer
SMALLEST, LARGEST = 1e-30, 1e30  # numbers beyond are no measurements, and cannot be drawn
LARGEST_EXPONENT = 100
MOST_UNCERTAINTY = 0.2  # of an exponent, as in bsbr_compare
FAILURE_NAMES = {"time": "too long", "memory": "no memory"}  # by the kind of a failure; others are "failed"


class InputError(Exception):
    """The results cannot be used: what, value and rule, and what may help."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass
class Fit:
    """y = c·Lᵃ, for time and memory; None where there are fewer than two lengths."""

    time_exponent: float = None
    r_squared: float = None
    memory_exponent: float = None
    memory_r_squared: float = None
    time_uncertainty: float = None  # of the exponent; None: unknown
    time_uncertain: bool = False  # fewer than three points, or repeats or points that scatter too much to tell how the time grows
    points: int = 0
    computed: bool = False  # here, not by the writer of the file


@dataclasses.dataclass
class Comparison:
    """What was measured. Times in seconds, memory in bytes, lengths in tokens."""

    results: dict  # (architecture, length) -> fields of that result
    failures: dict  # (architecture, length) -> reason
    failure_names: dict  # (architecture, length) -> "too long", "no memory", "failed"
    fits: dict  # architecture -> Fit, for those with results
    about: dict  # the other fields of the file: version, ranks, config, ...

    @property
    def architectures(self):
        """All that have a result or a failure, in the library's order; names that it does not know follow in that of the file."""
        names = dict.fromkeys(name for name, _ in (*self.results, *self.failures))
        return [name for name in ARCHITECTURES if name in names] + [name for name in names if name not in ARCHITECTURES]

    @property
    def lengths(self):
        return sorted({length for _, length in self.results})

    def lengths_of(self, architecture):
        return [length for length in self.lengths if (architecture, length) in self.results]

    def curve(self, architecture, field):
        """Lengths and values of one field, two arrays [points]."""
        import numpy as np

        lengths = self.lengths_of(architecture)
        return np.array(lengths, float), np.array([self.results[architecture, length][field] for length in lengths], float)

    def repeats(self, architecture):
        """The fastest and the slowest repeat, two arrays [points]; the median itself where the repeats are not known."""
        import numpy as np

        of = [self.results[architecture, length] for length in self.lengths_of(architecture)]
        repeats = [[*(result.get("seconds_by_repeat") or []), result["seconds"]] for result in of]
        return np.array([min(one) for one in repeats], float), np.array([max(one) for one in repeats], float)

    def relative(self, architecture, length):
        """How many times slower than the fastest at that length."""
        fastest = min(result["seconds"] for (_, other), result in self.results.items() if other == length)
        return self.results[architecture, length]["seconds"] / fastest

    def common_length(self):
        """The longest length that most architectures have; all of them, unless there is no such length."""
        return max(self.lengths, key=lambda length: (sum(other == length for _, other in self.results), length))


# ---- reading --------------------------------------------------------------------------------------------------------------------------


WRITERS = "write it with bsbr_compare --json FILE, or with bsbr_evaluate --by-position FILE"


def read_json(path):
    """What a file of JSON holds. Messages of the InputErrors do not name the file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        reason = error if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InputError(f"is not JSON: {reason}", WRITERS) from None


def read_comparison(data):
    """The Comparison in an object of JSON."""
    check_format(data)
    results = read_results(data)
    failures, failure_names = read_failures(data)
    fits = read_fits(data)
    about = {name: value for name, value in data.items() if name not in ("results", "failures", "fits")}
    comparison = Comparison(results, failures, failure_names, {}, about)
    for name in comparison.architectures:
        if comparison.lengths_of(name):
            comparison.fits[name] = complete_fit(comparison, name, fits.get(name, {}))
    return comparison


def check_format(data):
    if not isinstance(data, dict):
        raise InputError(f"holds {kind(data)}, must be an object", WRITERS)
    if data.get("format") != FORMAT:
        raise InputError(f'format = {show(data.get("format"))}, must be "{FORMAT}"', WRITERS)
    version = data.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise InputError(f"format_version = {show(version)}, must be {FORMAT_VERSION}")
    if not isinstance(data.get("config") or {}, dict):
        raise InputError(f'config is {kind(data["config"])}, must be an object')


def read_results(data):
    """(architecture, length) -> fields."""
    results = {}
    for where, item in listed(data, "results"):
        pair = read_pair(item, where)
        for field in REQUIRED:
            positive(item, field, where)
        for field in OPTIONAL:
            if item.get(field) is not None:
                positive(item, field, where)
        if not isinstance(item.get("config") or {}, dict):
            raise InputError(f'{where}: config is {kind(item["config"])}, must be an object')
        if not isinstance(item.get("warning") or "", str):
            raise InputError(f'{where}: warning is {kind(item["warning"])}, must be a string')
        repeats = item.get("seconds_by_repeat")
        if repeats is not None:
            if not isinstance(repeats, list):
                raise InputError(f"{where}: seconds_by_repeat is {kind(repeats)}, must be a list")
            for index, value in enumerate(repeats):
                positive({f"seconds_by_repeat[{index}]": value}, f"seconds_by_repeat[{index}]", where)
        if pair in results:
            raise InputError(f"{where}: {pair[0]} at {pair[1]:,} is there twice, must be there once")
        results[pair] = item
    if not results:
        hint = "failures says why nothing was measured" if data.get("failures") else None
        raise InputError("results is empty, at least one is needed", hint)
    return results


def read_failures(data):
    """(architecture, length) -> reason, and -> what a cell of a table calls it."""
    failures, names = {}, {}
    for where, item in listed(data, "failures", optional=True):
        reason = item.get("reason")
        if not isinstance(reason, str):
            raise InputError(f"{where}: reason = {show(reason)}, must be a string")
        pair = read_pair(item, where)
        failures[pair] = reason
        names[pair] = FAILURE_NAMES.get(item.get("kind") if isinstance(item.get("kind"), str) else None, "failed")
    return failures, names


def read_fits(data):
    """architecture -> fields; numbers may be None."""
    fits = {}
    for where, item in listed(data, "fits", optional=True):
        name = read_name(item, where)
        for field in ("time_exponent", "memory_exponent", "r_squared", "memory_r_squared"):
            value = item.get(field)
            if value is not None and (number(value) is None or abs(value) > LARGEST_EXPONENT):
                rule = f"must be a number from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}, or null"
                raise InputError(f"{where}: {field} = {show(value)}, {rule}")
        fits[name] = item
    return fits


def listed(data, field, optional=False):
    """The objects of a list, each with its name for messages: "results[3]"."""
    items = data.get(field)
    if items is None and optional:
        return
    if field not in data:
        raise InputError(f"{field} is missing, must be a list")
    if not isinstance(items, list):
        raise InputError(f"{field} is {kind(items)}, must be a list")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{field}[{index}] is {kind(item)}, must be an object")
        yield f"{field}[{index}]", item


def read_pair(item, where):
    name, length = read_name(item, where), item.get("seq_length")
    if "seq_length" not in item:
        raise InputError(f"{where}: seq_length is missing, must be an integer above 0")
    if type(length) is not int or not 0 < length <= LARGEST_LENGTH:
        raise InputError(f"{where}: seq_length = {show(length)}, must be an integer above 0")
    return name, length


def read_name(item, where):
    name = item.get("architecture")
    if "architecture" not in item:
        raise InputError(f"{where}: architecture is missing, must be a name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"{where}: architecture = {show(name)}, must be a name")
    return name


def positive(item, field, where):
    if field not in item:
        raise InputError(f"{where}: {field} is missing, must be a number above 0")
    value = number(item[field])
    if value is None or value <= 0:
        raise InputError(f"{where}: {field} = {show(item[field])}, must be a number above 0")
    if not SMALLEST <= value <= LARGEST:
        raise InputError(f"{where}: {field} = {show(item[field])}, must be from {SMALLEST:g} to {LARGEST:g}")


def number(value):
    """A finite number as float, else None. true and false are no numbers, though Python thinks so."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def kind(value):
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def show(value):
    """A value for a message, on one line and not too long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:  # Python writes no integers of more than 4300 digits
        text = "an integer of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


# ---- fits -----------------------------------------------------------------------------------------------------------------------------


def complete_fit(comparison, architecture, given):
    """The fit of the file, and where that has none, one of our own."""
    fit = Fit(points=len(comparison.lengths_of(architecture)))
    for field, exponent, quality in (("seconds", "time_exponent", "r_squared"), ("memory_bytes", "memory_exponent", "memory_r_squared")):
        if given.get(exponent) is not None:
            setattr(fit, exponent, given[exponent])
            setattr(fit, quality, given.get(quality))
        elif fit.points >= 2:
            a, r_squared = fit_power_law(*comparison.curve(architecture, field))
            setattr(fit, exponent, a)
            setattr(fit, quality, r_squared)
            fit.computed = True
    if fit.points >= 2:
        fit.time_uncertainty, fit.time_uncertain = uncertainty_of(*comparison.curve(architecture, "seconds"), *comparison.repeats(architecture))
    return fit


def uncertainty_of(x, y, low, high):
    """How far the exponent of a fit may be off, and whether that is too much to tell anything; arrays [points], two or more.

    As bsbr_compare has it: by the scatter about the line (the standard error), or by the ranges of the repeats, if each point lies at the end
    that moves the exponent most. It is too much above MOST_UNCERTAINTY, or if a range is wider than the law changes over all x.
    """
    import numpy as np

    if len(x) < 3:
        return None, True  # two points always lie on a line
    u, v, widths = np.log(x) - np.log(x).mean(), np.log(y) - np.log(y).mean(), np.log(high / low)
    square = np.sum(u**2)
    exponent = np.sum(u * v) / square
    scatter = math.sqrt(np.sum((v - exponent * u) ** 2) / (len(x) - 2) / square)
    uncertainty = max(scatter, float(np.sum(np.abs(u) * widths)) / 2 / square)
    return uncertainty, bool(uncertainty > MOST_UNCERTAINTY or np.max(widths) > abs(exponent) * np.ptp(u))


def fit_power_law(x, y):
    """Least squares of log y against log x, arrays [points], two or more -> exponent, share of the variance of log y that it explains."""
    import numpy as np

    x, y = np.log(x), np.log(y)
    slope, constant = np.polyfit(x, y, 1)
    total = np.sum((y - y.mean()) ** 2)
    rest = np.sum((y - constant - slope * x) ** 2)
    if np.ptp(y) == 0:
        return 0.0, 1.0
    return float(slope), float(1 - rest / total)


# ---- numbers for people ---------------------------------------------------------------------------------------------------------------


def counted(number, noun):
    """1 rank, 2 ranks."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def show_number(value):
    """Three digits, or all of an integer part: 0.0123, 1.23, 12.3, 1,234."""
    if value >= 1e15:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def show_scaled(value, units):
    """The value in the largest of the (factor, unit) that it reaches, in falling order; below all, in the last."""
    factor, unit = next((pair for pair in units if value >= 0.9995 * pair[0]), units[-1])
    return f"{show_number(value / factor)} {unit}"


SECONDS = [(1, "s"), (1e-3, "ms"), (1e-6, "µs")]
BYTES = [(2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")]


def show_seconds(value, of=None):
    """of: the values of its column, which all have the unit of the smallest."""
    return show_scaled(value, unit_of(of, SECONDS) if of else SECONDS)


def show_bytes(value, of=None):
    return show_scaled(value, unit_of(of, BYTES) if of else BYTES)


def unit_of(values, units):
    """The one of the units that the smallest value reaches."""
    return [next((pair for pair in units if min(values) >= 0.9995 * pair[0]), units[-1])]


def show_count(value):
    """Parameters, operations, tokens: 12.6 M."""
    if value < 1000:
        return f"{value:.3g}"
    return show_scaled(value, [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")])
