"""What runs are called whose files are drawn together. Used by plot_training.py and analyze_results.py."""
import os


def names_of(paths):
    """The names of the files, or where some are the same what tells their paths apart: a/x/log, a/y/log are x and y."""
    short = [os.path.basename(path) for path in paths]
    if len(set(short)) == len(short):
        return short
    parts = [path.split(os.sep) for path in paths]
    shortest = min(map(len, parts))
    first = common(parts, range(shortest))
    last = common(parts, range(-1, -shortest - 1 + first, -1))
    names = [os.sep.join(part[first:len(part) - last]) for part in parts]
    return names if all(names) and len(set(names)) == len(names) else paths


def common(parts, places):
    """At how many of these places, up to the first at which they differ, all lists are the same."""
    count = 0
    for place in places:
        if len({part[place] for part in parts}) > 1:
            break
        count += 1
    return count
