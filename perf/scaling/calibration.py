"""Measures the rates that the model needs of a machine (model.Machine), with short forwards on one rank and on two."""
import dataclasses
import itertools
import math
import time

import numpy as np

from model import Machine, amounts, exchange_seconds, traffic
from setups import ARCHITECTURES, Setup, heads_of
from study import FAILED, Case, Failure, disturbed, line, processor

SMALL = dict(hidden_dim=256, num_heads=4, num_layers=2, ff_dim=1024)
THIN = dict(hidden_dim=128, num_heads=4, num_layers=2, ff_dim=512)
WIDE = dict(hidden_dim=512, num_heads=8, num_layers=1, ff_dim=2048)

FEW = 3  # in each round; runs on several ranks are short, and others on the machine disturb them most


def one_rank_setups(precision):
    """Forwards on one thread that tell the units of each phase apart: several widths, lengths, chunks and windows."""
    for name, architecture in ARCHITECTURES.items():
        for sizes, length, *own in telling_sizes(architecture):
            fields = {**sizes, **(own[0] if own else {})}
            yield Setup(name, length, precision=precision, **{**fields, "num_heads": heads_of(name, fields["num_heads"])})


def telling_sizes(architecture):
    """(sizes, length[, other fields])"""
    if architecture.transfer == "chunk_states":
        return ((SMALL, 4096, dict(chunk_size=32)), (SMALL, 4096), (SMALL, 8192, dict(chunk_size=64)), (SMALL, 4096, dict(chunk_size=512)),
                (SMALL, 12288, dict(chunk_size=32)), (THIN, 4096), (WIDE, 2048), (WIDE, 4096, dict(chunk_size=256)),
                (WIDE, 8192, dict(chunk_size=32)))
    if architecture.transfer == "state":
        return (SMALL, 2048), (SMALL, 8192), (THIN, 4096), (WIDE, 2048)
    if architecture.window_field:
        return (SMALL, 4096), (SMALL, 4096, {architecture.window_field: 512}), (THIN, 4096), (WIDE, 2048)
    return (SMALL, 1024), (SMALL, 4096), (THIN, 4096), (WIDE, 4096)


def calibrate(runner, cores, precision, rounds, repeat, earlier=()):
    """Yields the lines of all runs, then the line `machine`. rounds: how often all of it is measured.

    earlier: lines of earlier calibrations, whose runs count too. Of several runs of a setup the fastest counts, phase by phase: what others
    do on the machine only takes time.
    """
    setups = list(one_rank_setups(precision))
    crowd = Setup(architecture="bsbr", length=4096 * cores, ranks=cores, precision=precision, **SMALL)
    alone = dataclasses.replace(crowd, length=4096, ranks=1)
    tiny = Setup(architecture="standard", length=32, ranks=2, chunk_size=16, precision=precision, hidden_dim=32, num_heads=2, num_layers=16,
                 ff_dim=32)
    large = Setup(architecture="standard", length=2048, ranks=2, precision=precision, **SMALL)
    seen = {setup: [] for setup in [*setups, crowd, alone, tiny, large]}
    for entry in earlier:
        if entry["kind"] == "run" and entry["study"] == "calibration" and entry["cores"] == cores:
            seen.get(Case.of(entry).setup, []).append(entry)
    for _ in range(rounds):
        for setup in [*setups, *FEW * (crowd, alone, tiny, large)]:
            entry = runner.run(Case("calibration", setup, 1, cores, repeat))
            yield entry
            if entry["kind"] == "failure":
                raise Failure(FAILED, f"{setup.architecture} at {setup.length:,} tokens failed: {entry['reason']}")
            seen[setup].append(entry)
    memory_rate = copy_rate()
    latency, bandwidth = message_rates(seen[tiny], tiny, undisturbed(seen[large]), large, memory_rate)
    about = seen[alone][0]["summary"]
    yield line("machine", cores=cores, processor=processor(), precision=precision, seconds=fit({setup: seen[setup] for setup in setups}),
               crowding=crowding_of(undisturbed(seen[alone]), undisturbed(seen[crowd])), memory_rate=memory_rate, latency=latency,
               bandwidth=bandwidth, **{name: about[name] for name in ("gemm", "version", "git_commit")})


def undisturbed(entries):
    return [entry for entry in entries if not disturbed(entry)]


def crowding_of(alone, crowd):
    """How many times longer a rank takes with one on each core; 1 where others have disturbed every such run."""
    return max(1.0, least_seconds(crowd) / least_seconds(alone)) if alone and crowd else 1.0


def least_seconds(entries):
    return min(min(entry["summary"]["seconds_by_repeat"]) for entry in entries)


def fit(seen):
    """setup -> lines of its runs on one thread; -> phase, or phase.architecture -> {unit: seconds}."""
    samples = {}
    for setup, entries in seen.items():
        for phase, units in amounts(setup, 0).items():
            times = 1 if phase in ("embedding", "final_norm") else setup.num_layers
            seconds = min(entry["summary"]["seconds_by_phase"].get(phase, 0) for entry in entries) / times
            own = phase in ("attention", "scan", "within_chunk")
            samples.setdefault(f"{phase}.{setup.architecture}" if own else phase, []).append((units, seconds))
    return {phase: fit_phase(of_phase) for phase, of_phase in samples.items()}


def fit_phase(samples):
    """samples: ({unit: amount}, seconds) -> {unit: seconds for one}, none below zero, that leave the least relative squared error."""
    units = sorted({unit for amounts_of, _ in samples for unit in amounts_of})
    matrix = np.array([[amounts_of.get(unit, 0) / seconds for unit in units] for amounts_of, seconds in samples])
    ones, best = np.ones(len(samples)), (math.inf, {})
    for count in range(1, len(units) + 1):
        for chosen in itertools.combinations(range(len(units)), count):
            solution = np.linalg.lstsq(matrix[:, chosen], ones, rcond=None)[0]
            error = float(np.sum((matrix[:, chosen] @ solution - 1) ** 2))
            if np.all(solution >= 0) and error < best[0] - 1e-9:
                best = error, {units[index]: float(value) for index, value in zip(chosen, solution)}
    return best[1]


def copy_rate(megabytes=64, times=5):
    """Bytes that are read and written in a second when a large array is copied on one thread."""
    source = np.ones(megabytes << 17)
    target = np.empty_like(source)
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(seconds)


def message_rates(tiny_runs, tiny, large_runs, large, memory_rate):
    """Latency of a message and bytes/s between two ranks of this machine, from the exchange phases of a forward with tiny messages and of one
    with large ones. What a rank waits for the other does not count: the least of both, and of all runs. Without runs with large ones:
    messages are taken to be copied twice.
    """
    def least(entries, setup):
        ranks = (rank for entry in entries for rank in entry["summary"]["by_rank"])
        return min(rank["seconds_by_phase"]["exchange"] for rank in ranks) / setup.num_layers

    latency = least(tiny_runs, tiny) / sum(count for _, count in traffic(tiny, 0).values())
    if not large_runs:
        return latency, memory_rate / 4
    free = Machine(seconds={}, cores=2, crowding=1, memory_rate=memory_rate, latency=latency, bandwidth=math.inf)
    size = traffic(large, 0)["heads"][0]
    rest = least(large_runs, large) - exchange_seconds(free, large, 0, {})
    return latency, size / max(rest, 4 * size / memory_rate)
