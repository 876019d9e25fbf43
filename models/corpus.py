#!/usr/bin/env python3
"""Makes the corpus of the models in this folder: source code and English of Debian packages.

    models/corpus.py OUTPUT_DIR [--newest]

The packages, in these versions, are downloaded with `apt-get download` and unpacked in a temporary folder; nothing is installed.
OUTPUT_DIR then has `train.txt` and `held-out.txt`: the files of each package in the order of their paths, one behind the other, and
those of the held-out folders in a text of their own. Prints the length and the SHA-256 of both. They are compared with those in
corpus.json, and the exit code is 1 if they differ. `--newest` takes whatever version apt-get offers, and compares nothing.
"""

import argparse
import fnmatch
import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MANIFEST = Path(__file__).with_name("corpus.json")


def download(name, version, folder):
    """Downloads a package into `folder`, and returns the folder into which it was unpacked."""
    wanted = name if version is None else f"{name}={version}"
    result = subprocess.run(["apt-get", "download", wanted], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"corpus.py: error: apt-get has no {wanted}; `apt-get update` may help, or --newest\n{result.stderr.strip()}")
    (archive,) = folder.glob(f"{name}_*.deb")
    unpacked = folder / name
    subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
    return unpacked


def files_of(package, unpacked):
    """Yields (path inside the package, text) of all files that its patterns name, in the order of their paths."""
    for path in sorted(unpacked.rglob("*"), key=lambda path: path.relative_to(unpacked).as_posix()):
        inside = path.relative_to(unpacked).as_posix()
        if path.is_symlink() or not path.is_file() or not matches(inside, package["files"]):
            continue
        if matches(inside, package.get("without", [])):
            continue
        data = path.read_bytes()
        yield inside, gzip.decompress(data) if path.suffix == ".gz" else data


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def collect(packages, newest):
    """Returns the two texts. A file whose content was met before is left out."""
    texts = {"train": bytearray(), "held-out": bytearray()}
    seen = set()
    with tempfile.TemporaryDirectory() as scratch:
        for package in packages:
            unpacked = download(package["name"], None if newest else package["version"], Path(scratch))
            before = sum(map(len, texts.values()))
            for inside, text in files_of(package, unpacked):
                digest = hashlib.sha256(text).digest()
                if digest in seen:
                    continue
                seen.add(digest)
                texts["held-out" if matches(inside, package.get("held_out", [])) else "train"] += text
            print(f"{package['name']:24} {sum(map(len, texts.values())) - before:10,} bytes")
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--newest", action="store_true", help="take the versions that apt-get offers, compare no hashes")
    options = parser.parse_args()
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    texts = collect(manifest["packages"], options.newest)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    differs = False
    for name, text in texts.items():
        (options.output_dir / f"{name}.txt").write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()
        print(f"{name + '.txt':24} {len(text):10,} bytes  sha256 {digest}")
        differs |= digest != manifest["sha256"][name]
    if differs and not options.newest:
        sys.exit("corpus.py: error: these are not the texts that the models were trained on (corpus.json)")


if __name__ == "__main__":
    main()
