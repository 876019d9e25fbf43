"""Golden files and their index, as README.md describes them."""
import json
import os

import h5py
import numpy as np

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INDEX = os.path.join(FOLDER, "index.json")


def path_of(name):
    return os.path.join(FOLDER, f"{name}.h5")


def stored_attribute(value):
    """int64, float64, or a string of fixed length."""
    return {int: np.int64, float: np.float64, str: np.bytes_}[type(value)](value)


def write_file(name, attributes, datasets):
    """datasets: {path: array}"""
    with h5py.File(path_of(name), "w", libver=("v110", "v110")) as file:  # HDF5 1.10 can read it
        for key, value in attributes.items():
            file.attrs[key] = stored_attribute(value)
        for path, values in datasets.items():
            file.create_dataset(path, data=values)


def read_file(name):
    """Attributes as h5py gives them, and {path: array}."""
    datasets = {}
    with h5py.File(path_of(name)) as file:
        def keep(path, item):
            if isinstance(item, h5py.Dataset):
                datasets[path] = item[()]

        file.visititems(keep)
        return dict(file.attrs), datasets


def stored_names():
    """Names of the golden files in the folder."""
    return sorted(file[:-len(".h5")] for file in os.listdir(FOLDER) if file.endswith(".h5"))


def read_index():
    """{name: entry}"""
    with open(INDEX, encoding="utf-8") as file:
        return {entry["case"]: entry for entry in json.load(file)}


def write_index(entries):
    """One entry a line."""
    with open(INDEX, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(entry) for entry in entries.values()) + "\n]\n")
