"""What is in the golden file of a case: made for files that are written, and held against files that are there."""
import math
import zlib

import numpy as np

from generator import files, shell, weights

TOLERANCE = 1e-12  # of the numbers of a dataset, relative to the largest of them where that is above 1


class Golden:
    """One golden file: a case of an architecture."""

    def __init__(self, architecture_name, architecture, case):
        self.architecture, self.case = architecture, case
        self.name = f"{architecture_name}_{case.name}"
        self.config = {"architecture": architecture_name, **case.config}
        self.notes = f"{case.notes}; head width {architecture.head_dim(self.config)}"

    def index_entry(self, earlier):
        """The entry of index.json. What an earlier one says of comparisons with another implementation stays."""
        earlier = earlier or {"checked_against_package": None, "checked_positions": 0}
        return {
            "file": f"{self.name}.h5", "case": self.name, "config": self.config,
            "batch": self.case.batch, "seq_len": self.case.length, "mask": self.case.masks, "layers": self.case.layers,
            "checked_against_package": earlier["checked_against_package"],
            "checked_positions": earlier["checked_positions"], "notes": self.notes,
        }

    def attributes(self, entry):
        """Attributes of the file's root."""
        attributes = {"format": "bsbr-model", "format_version": 1, **self.config,
                      "case": self.name, "notes": self.notes}
        if entry["checked_against_package"] is not None:
            attributes["checked_against_package"] = entry["checked_against_package"]
        return attributes

    def drawn(self):
        """Random ids and weights, by their paths in the file. The seed is made from the name of the case."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        ids = random.integers(0, self.config["vocab_size"], (self.case.batch, self.case.length))
        model = weights.draw(self.architecture, self.config, random)
        return {"inputs/input_ids": ids, **{f"weights/{name}": values for name, values in model.items()}}

    def fits(self, drawn):
        """Whether these are ids and weights with the names, shapes and types of the case."""
        return layout(drawn) == layout(self.drawn())

    def datasets(self, drawn):
        """All datasets of the file, by path, with these ids and weights."""
        datasets, mask = dict(drawn), self.case.mask()
        if mask is not None:
            datasets["inputs/attention_mask"] = mask
        for group, changes in self.architecture.outputs.items():
            path = f"expected/{group}" if group else "expected"
            layers, hidden_states = self._forward({**self.config, **changes}, drawn, mask)
            datasets[f"{path}/hidden_states"] = hidden_states
            if self.case.layers:
                datasets[f"{path}/layers"] = layers
        return datasets

    def _forward(self, config, drawn, mask):
        """[num_layers, batch, L, D] and [batch, L, D]"""
        model = {path[len("weights/"):]: values.astype(np.float64) for path, values in drawn.items()}
        layers, hidden_states = [], []
        for row, ids in enumerate(drawn["inputs/input_ids"]):
            real = np.ones(len(ids)) if mask is None else mask[row]
            of_row = shell.forward(self.architecture, config, ids, real, model)
            layers.append(of_row[0])
            hidden_states.append(of_row[1])
        return np.stack(layers, axis=1), np.stack(hidden_states)


def layout(datasets):
    return {path: (values.shape, values.dtype) for path, values in datasets.items()}


def ids_and_weights(datasets):
    """Those of a file's datasets from which the others are computed."""
    return {path: values for path, values in datasets.items()
            if path == "inputs/input_ids" or path.startswith("weights/")}


def compare(golden, entry):
    """The largest difference between a file and what is computed from its ids and weights, and what is wrong with it.

    entry: that of index.json, or None.
    """
    if golden.name not in files.stored_names():
        return math.inf, ["there is no such file"]
    attributes, datasets = files.read_file(golden.name)
    drawn = ids_and_weights(datasets)
    if not golden.fits(drawn):
        return math.inf, ["ids or weights have other names, shapes or types than those of the case"]
    wrong = []
    if entry != golden.index_entry(entry):
        wrong.append("its entry in index.json is missing, or is not that of the case")
    wrong += wrong_attributes(attributes, golden.attributes(golden.index_entry(entry)))
    largest, wrong_data = wrong_datasets(datasets, golden.datasets(drawn))
    return largest, wrong + wrong_data


def wrong_attributes(stored, expected):
    """A line for each attribute that differs in value or type."""
    expected = {name: files.stored_attribute(value) for name, value in expected.items()}
    return [f"the attribute {name} is {stored.get(name, 'missing')}, not {expected.get(name, 'expected')}"
            for name in sorted(set(stored) | set(expected))
            if name not in stored or name not in expected
            or (stored[name], stored[name].dtype) != (expected[name], expected[name].dtype)]


def wrong_datasets(stored, computed):
    """The largest difference, and a line for each dataset that is not as it is computed."""
    largest, wrong = 0.0, []
    for path in sorted(set(stored) | set(computed)):
        if path not in stored or path not in computed:
            wrong.append(f"{path} is missing" if path in computed else f"{path} is not part of the case")
        elif layout(stored)[path] != layout(computed)[path]:
            wrong.append(f"{path} is {layout(stored)[path]}, not {layout(computed)[path]}")
        else:
            difference = np.max(np.abs(stored[path] - computed[path])) / max(1.0, np.max(np.abs(computed[path])))
            largest = max(largest, difference)
            if not difference <= TOLERANCE:  # so NaN is wrong, too
                wrong.append(f"{path} differs by {difference:.1e}")
    return largest, wrong
