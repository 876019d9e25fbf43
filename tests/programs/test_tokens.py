"""tools/tokens.py from outside: text into token files and back, by bytes and by tokenizers, and what is said of bad input.

Tokenizers are made here by the library tokenizers; where it is missing those tests are skipped. Without h5py all are: the exit code is 77,
which ctest is told to take for that.
"""
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import types
import unittest

if importlib.util.find_spec("h5py") is None:
    print(f"skipped: {sys.executable} has no h5py (Debian: python3-h5py)")
    sys.exit(77)

import h5py
import numpy as np
from programs import PROGRAMS, Case, run

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
TOOL = os.path.join(TOOLS, "tokens.py")
PROGRAM = "tokens.py"
NO_PACKAGE, USAGE, FILE, OUTPUT = 1, 2, 3, 6

sys.path.insert(0, TOOLS)
import token_coders  # noqa: E402
import token_files  # noqa: E402
import tokens  # noqa: E402

with_tokenizers = unittest.skipUnless(importlib.util.find_spec("tokenizers"), "the library tokenizers is missing")

# Where no Python of the machine has a package.
HINTS = {**dict.fromkeys(("numpy", "h5py"), "on Debian and Ubuntu: apt-get install python3-"),
         "tokenizers": "python3 -m pip install tokenizers h5py, in an environment"}
TEXT = "The cat's hat, isn't it?\n\n  Deux œufs à 3,50 €\r\n\tand 1234567 more\n日本語の文字\n🙂 e\u0301 \u00a0end" * 3
# What tokenizers look at: spaces and ends of lines of several kinds, letters, digits, signs, contractions, letters of several bytes.
ATOMS = [" ", " ", " ", " ", " ", "  ", "\n", "\r\n", "\n\n", "\t", "\u00a0", "a", "the", "Word", "Ab", "cd", "'s", "'", "12", "7", ".", ",)", "é", "日", "🙂", "<|end|>"]


def all_of_unicode():
    return "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)


def some_text(seed, atoms=400):
    return "".join(random.Random(seed).choices(ATOMS, k=atoms))


def tool(*arguments, text=b"", before=None, **environment):
    done = subprocess.run([sys.executable, "-B", TOOL, *map(str, arguments)], input=text, capture_output=True, timeout=120,
                          env={**os.environ, **environment}, preexec_fn=before)
    return types.SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr.decode())


def tool_here(*arguments):
    """The same without a process of its own, for what writes no text to standard output."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = tokens.main([str(argument) for argument in arguments])
        out.flush()
    return types.SimpleNamespace(code=code, out=out.buffer.getvalue().decode(), err=err.getvalue())


class Tokens(Case):
    def setUp(self):
        super().setUp()
        token_files.load_hdf5()

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def encoded(self, text, *arguments, output="ids.h5"):
        """Encodes it -> the ids; what was said is in self.said."""
        source = self.text("text", text if isinstance(text, bytes) else text.encode())
        done = tool_here("encode", source, "--output", self.path(output), *arguments)
        self.assertEqual((done.code, done.err), (0, ""))
        self.said = done.out
        if output.endswith(".npy"):
            return np.load(self.path(output))
        with h5py.File(self.path(output)) as file:
            return file["input_ids"][()]

    def decoded(self, source, *arguments):
        done = tool_here("decode", source, "--output", self.path("back"), *arguments)
        self.assertEqual((done.code, done.err), (0, ""))
        return self.content("back")

    def refused(self, done, code, says, left=()):
        """One line; and nothing is there but `left` and what the test has made."""
        self.check_failure(types.SimpleNamespace(code=done.code, err=done.err, out=done.out or ""), PROGRAM, code, says)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("out")], list(left))

    def small_parts(self):
        """Texts and ids are cut every few of them."""
        for name, value in dict(PART=24, CONTEXT=12, BATCH=3, LONGEST=2000).items():
            self.addCleanup(setattr, token_coders, name, getattr(token_coders, name))
            setattr(token_coders, name, value)
        for module, name, value in ((tokens, "BLOCK", 7), (token_files, "BLOCK", 7), (token_files, "CHUNK", 50)):
            self.addCleanup(setattr, module, name, getattr(module, name))
            setattr(module, name, value)


class Bytes(Tokens):
    def test_ids_are_the_bytes_of_any_file_and_come_back(self):
        for text in (TEXT, "", "no end of line", all_of_unicode(), bytes(range(256)) * 700):
            data = text if isinstance(text, bytes) else text.encode()
            for output in ("ids.h5", "ids.npy"):
                ids = self.encoded(data, output=output)
                self.assertEqual(ids.dtype, np.uint8)
                self.assertTrue(ids.tobytes() == data)
                self.assertTrue(self.decoded(self.path(output)) == data)
        self.assertEqual(self.said, f"{self.path('ids.npy')}: 179,200 ids of uint8, vocab_size 256\n")

    def test_standard_input_and_output_are_taken(self):
        done = tool("encode", "-", "--output", self.path("ids.h5"), text=TEXT.encode())
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(tool("decode", self.path("ids.h5")).out, TEXT.encode())
        self.assertEqual(tool("decode", "-", text="".join(f"{byte}\n" for byte in TEXT.encode()).encode()).out, TEXT.encode())

    def test_an_hdf5_file_says_what_its_ids_are(self):
        done = tool_here("encode", self.text(content=b"abc"), "--output", self.path("ids.h5"), "--dataset", "deep/er/ids")
        self.assertEqual((done.code, done.out), (0, f"{self.path('ids.h5')}: 3 ids of uint8 in /deep/er/ids, vocab_size 256\n"))
        with h5py.File(self.path("ids.h5")) as file:
            self.assertEqual(dict(file["deep/er/ids"].attrs), dict(tokenizer="bytes", vocab_size=256))
        self.assertEqual(self.decoded(self.path("ids.h5") + ":/deep/er/ids"), b"abc")
        self.assertEqual(self.decoded(self.path("ids.h5") + ":deep/er/ids"), b"abc")
        self.refused(tool_here("decode", self.path("ids.h5"), "--output", self.path("out")), FILE, "has neither /inputs/input_ids nor")
        self.refused(tool_here("decode", self.path("ids.h5") + ":/x", "--output", self.path("out")), FILE, "has no dataset /x")

    def test_ids_of_other_programs_are_decoded(self):
        ids = np.frombuffer(TEXT.encode(), "u1")
        for dtype in ("i1", ">i2", "u4", "i8", "u8"):
            few = ids[ids < 128].astype(dtype)
            np.save(self.path("ids.npy"), few)
            self.assertEqual(self.decoded(self.path("ids.npy")), few.astype("u1").tobytes())
        with h5py.File(self.path("ids.h5"), "w") as file:
            file["inputs/input_ids"] = np.array([[72, 105, 0, 0], [33, 10, 72, 105]])
            file["inputs/attention_mask"] = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
            file["input_ids"] = np.zeros(3, int)  # is not looked at
        self.assertEqual(self.decoded(self.path("ids.h5")), b"Hi!\nHi")
        np.save(self.path("ids.npy"), np.asfortranarray([[72, 105], [33, 10]]))
        self.assertEqual(self.decoded(self.path("ids.npy")), b"Hi!\n")
        self.assertEqual(self.decoded(self.text("ids.txt", b"72\n105\n\n 33 \r\n10")), b"Hi!\n")

    def test_a_file_whose_name_has_a_colon_is_taken_by_it(self):
        np.save(self.path("a:b.npy"), np.array([72, 105]))
        self.assertEqual(self.decoded(self.path("a:b.npy")), b"Hi")

    def test_parts_are_the_whole(self):
        whole = self.encoded(TEXT)
        self.small_parts()
        np.testing.assert_array_equal(self.encoded(TEXT), whole)
        self.assertEqual(self.decoded(self.path("ids.h5")), TEXT.encode())
        text = "".join(f"{byte}\n" for byte in TEXT.encode())
        self.assertEqual(self.decoded(self.text("ids.txt", text.encode())), TEXT.encode())

    @unittest.skipUnless(os.path.exists(os.path.join(PROGRAMS, "bsbr_evaluate")), "the programs are not built")
    def test_bsbr_evaluate_takes_the_files(self):
        model = self.model(head="tied")
        losses = []
        for source in (self.text("text", TEXT.encode()), self.path("ids.h5"), self.path("ids.npy")):
            if source != self.path("text"):
                self.encoded(TEXT, output=os.path.basename(source))
            done = run("bsbr_evaluate", "--model", model, "--input", source, "--json", "-")
            self.assertEqual((done.code, done.err), (0, ""))
            losses.append(json.loads(done.out)["loss"])
        self.assertEqual(len(set(losses)), 1)


@with_tokenizers
class Tokenizer(Tokens):
    def tokenizer(self, name="tokenizer.json", pre=None, decoder=None, normalizer=None, **changes):
        """A tokenizer file of byte pairs, as GPT-2 has it."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoder or decoders.ByteLevel()
        if normalizer:
            made.normalizer = normalizer
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                      special_tokens=["<|end|>"])
        made.train_from_iterator([TEXT, *map(some_text, range(20))], trainer)
        for change, arguments in changes.items():
            getattr(made, change)(**arguments)
        made.save(self.path(name))
        return made, self.path(name)

    def round_trip(self, text, made, path):
        ids = self.encoded(text, "--tokenizer", path)
        np.testing.assert_array_equal(ids, made.encode(text, add_special_tokens=False).ids)
        self.assertEqual(self.decoded(self.path("ids.h5"), "--tokenizer", path), text.encode())
        return ids

    def test_ids_are_the_tokenizers_and_the_text_comes_back(self):
        made, path = self.tokenizer()
        for text in ("", "no end of line", TEXT, all_of_unicode()[:2**17], some_text(3)):
            self.assertEqual(self.round_trip(text, made, path).dtype, np.uint16)
        ids = self.encoded(TEXT, "--tokenizer", path, output="ids.npy")
        self.assertEqual(ids.tolist(), made.encode(TEXT).ids)
        self.assertEqual(self.decoded(self.path("ids.npy"), "--tokenizer", path), TEXT.encode())
        lines = self.text("ids.txt", "".join(f"{token}\n" for token in ids).encode())
        self.assertEqual(self.decoded(lines, "--tokenizer", path), TEXT.encode())

    def test_a_text_that_is_cut_has_the_ids_of_the_whole(self):
        from tokenizers import Regex, decoders, pre_tokenizers

        byte_level = {"decoder": decoders.ByteLevel()}
        newer = Regex(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
        kinds = {
            "gpt2": {},
            "prefix_space": dict(pre=pre_tokenizers.ByteLevel(add_prefix_space=True)),
            "newer": dict(pre=pre_tokenizers.Sequence([pre_tokenizers.Split(newer, "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), **byte_level),
            "metaspace": dict(pre=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace()),
        }
        self.small_parts()
        for name, kind in kinds.items():
            made, path = self.tokenizer(name, **kind)
            coder, cuts = token_coders.Tokenizer(path), 0
            for seed in range(20):
                text = some_text(seed)
                parts = list(coder.parts_of(iter([text[begin:begin + 5] for begin in range(0, len(text), 5)])))
                cuts += len(parts) - 1
                self.assertEqual("".join(parts), text)
                ids = [token for part in parts for token in made.encode(part, add_special_tokens=False).ids]
                whole = made.encode(text, add_special_tokens=False).ids
                self.assertEqual(ids, whole, name)
                back = b"".join(coder.decode([np.array(ids[begin:begin + 11]) for begin in range(0, len(ids), 11)]))
                self.assertEqual(back.decode(), made.decode(whole, skip_special_tokens=False), name)
            self.assertGreater(cuts, 100, name)
        made, path = self.tokenizer()
        self.round_trip(TEXT * 5, made, path)

    def test_ids_that_are_no_text_are_decoded_as_by_the_tokenizer(self):
        made, path = self.tokenizer()
        self.small_parts()
        coder = token_coders.Tokenizer(path)
        for seed in range(20):  # bytes of letters and halves of them, which show as the replacement character
            ids = random.Random(seed).choices(range(made.get_vocab_size()), k=500)
            back = b"".join(coder.decode([np.array(ids[begin:begin + 11]) for begin in range(0, len(ids), 11)]))
            self.assertEqual(back.decode(), made.decode(ids, skip_special_tokens=False))

    def test_what_cannot_be_cut_is_refused_where_it_is_long(self):
        from tokenizers import Regex, decoders, normalizers

        made, path = self.tokenizer(normalizer=normalizers.Prepend("_"))  # at the beginning of each part, too
        self.assertEqual(self.encoded(TEXT, "--tokenizer", path).tolist(), made.encode(TEXT).ids)
        self.small_parts()
        self.assertEqual(self.encoded(TEXT, "--tokenizer", path).tolist(), made.encode(TEXT).ids)
        long = self.text("long", TEXT.encode() * 40)
        self.refused(tool_here("encode", long, "--output", self.path("out.h5"), "--tokenizer", path), FILE,
                     [path, "a text as long as this one cannot be encoded"])
        made, path = self.tokenizer()
        solid = self.text("solid", b"x" * 3000)
        self.refused(tool_here("encode", solid, "--output", self.path("out.h5"), "--tokenizer", path), FILE, "no place to cut")
        made, path = self.tokenizer("other", decoder=decoders.Sequence([decoders.ByteLevel(), decoders.Fuse(), decoders.Replace(Regex("a$"), "!")]))
        np.save(self.path("ids.npy"), np.full(3000, made.token_to_id("a")))
        self.refused(tool_here("decode", self.path("ids.npy"), "--output", self.path("out"), "--tokenizer", path), FILE,
                     "so many ids cannot be decoded")

    def test_cutting_off_filling_up_and_special_tokens_are_not_for_token_files(self):
        from tokenizers import processors

        made, path = self.tokenizer(enable_truncation=dict(max_length=3), enable_padding=dict(length=1000))
        made.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", made.token_to_id("<|end|>"))])
        made.save(path)
        self.assertEqual(len(made.encode("a b c d e f").ids), 1000)
        made.no_truncation()
        made.no_padding()
        self.round_trip(TEXT, made, path)

    def test_the_type_of_ids_is_the_smallest_that_holds_the_vocabulary(self):
        from tokenizers import Tokenizer, models

        for size, dtype in ((256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32")):
            Tokenizer(models.WordLevel({str(token): token for token in range(size)}, unk_token="0")).save(self.path("words"))
            self.assertEqual(self.encoded(str(size - 1), "--tokenizer", self.path("words")).tolist(), [size - 1])
            self.assertIn(f"1 ids of {dtype} in /input_ids, vocab_size {size}", self.said)
            self.assertEqual(self.decoded(self.path("ids.h5"), "--tokenizer", self.path("words")), str(size - 1).encode())

    def test_ids_of_another_tokenizer_are_refused(self):
        _, path = self.tokenizer()
        _, other = self.tokenizer("other.json", add_tokens=dict(tokens=["more"]))
        self.encoded(TEXT, "--tokenizer", path)
        with h5py.File(self.path("ids.h5")) as file:
            with open(path, "rb") as made:
                name = "sha256:" + hashlib.sha256(made.read()).hexdigest()
            self.assertEqual(dict(file["input_ids"].attrs), dict(tokenizer=name, vocab_size=400))
        ids, out = self.path("ids.h5"), ["--output", self.path("out")]
        self.refused(tool_here("decode", ids, "--tokenizer", other, *out), FILE, [ids, "of another tokenizer, " + name, other])
        self.refused(tool_here("decode", ids, *out), USAGE, "argument --tokenizer is needed")
        self.encoded(TEXT)
        self.refused(tool_here("decode", ids, "--tokenizer", path, *out), FILE, "its ids are bytes")

    def test_ids_that_the_tokenizer_has_not_are_refused(self):
        from tokenizers import Tokenizer, models

        Tokenizer(models.WordLevel({"a": 0, "b": 5}, unk_token="a")).save(self.path("words"))
        for ids, says in (([0, 5, 6], "id 2 of row 0 is 6, must be one from 0 to 5"), ([0, 3], "id 1 of row 0 is 3"), ([-1], "id 0 of row 0 is")):
            np.save(self.path("ids.npy"), np.array(ids))
            self.refused(tool_here("decode", self.path("ids.npy"), "--tokenizer", self.path("words"), "--output", self.path("out")), FILE, says)

    def test_bad_tokenizer_files_and_texts_are_named(self):
        made, path = self.tokenizer()
        source, out = self.text("text", TEXT.encode()), ["--output", self.path("out.h5")]
        for name, content, says in (("bad", b"{}", "is not a tokenizer file: "), ("bad", b"", "is not a tokenizer file: "),
                                    ("bad", b"\xff", "cannot be read: "), ("absent", None, "cannot be read: No such file")):
            bad = self.path(name) if content is None else self.text(name, content)
            self.refused(tool_here("encode", source, *out, "--tokenizer", bad), FILE, [bad + ": ", says])
        self.small_parts()
        for content, place in ((b"abc\xff", 3), (b"a" * 20 + "é".encode()[:1], 20), (b"\xe2\x82", 0), (("é" * 9 + "\n").encode() + b"\xc3b", 19)):
            bad = self.text("bad", content)
            self.refused(tool_here("encode", bad, *out, "--tokenizer", path), FILE, f"the text is not UTF-8 at byte {place}: ")

    def test_an_input_is_never_the_output(self):
        _, path = self.tokenizer()
        before = self.content("tokenizer.json")
        done = tool_here("encode", self.text("text", b"a"), "--output", path, "--tokenizer", path)
        self.refused(done, OUTPUT, f"is the input {path}")
        self.encoded(b"abc")
        for source in (self.path("ids.h5"), self.path("ids.h5") + ":/input_ids"):
            self.refused(tool_here("decode", source, "--output", self.path("ids.h5")), OUTPUT, f"is the input {self.path('ids.h5')}")
        self.assertEqual((self.content("tokenizer.json"), self.decoded(self.path("ids.h5"))), (before, b"abc"))


class Refused(Tokens):
    def test_bad_command_lines_are_usage_errors(self):
        for says, arguments in [
            ("COMMAND", []),
            ("TEXT", ["encode", "--output", self.path("out.h5")]),
            ("--output", ["encode", "text"]),
            ("--output is -, must be", ["encode", "text", "--output", "-"]),
            ("output is empty", ["encode", "text", "--output", ""]),
            ("tokenizer is empty", ["decode", "ids", "--tokenizer", ""]),
            ("a .npy file has no datasets", ["encode", "text", "--output", self.path("out.npy"), "--dataset", "x"]),
            ("--dataset is '/', must be", ["encode", "text", "--output", self.path("out.h5"), "--dataset", ""]),
            ("--dataset is '/a/../b'", ["encode", "text", "--output", self.path("out.h5"), "--dataset", "a/../b"]),
            ("IDS", ["decode"]),
            ("--frobnicate", ["decode", "ids", "--frobnicate"]),
        ]:
            self.refused(tool_here(*arguments), USAGE, says)

    def test_bad_files_are_named_with_what_is_wrong_and_nothing_is_written(self):
        def hdf5(name="input_ids", attributes=(), **dataset):
            with h5py.File(self.path("ids"), "w") as file:
                file.create_dataset(name, **dataset).attrs.update(attributes)

        def link(path):
            with h5py.File(self.path("other.h5"), "w") as file:
                file["input_ids"] = np.zeros(3, int)
            with h5py.File(self.path("ids"), "w") as file:
                file["input_ids"] = h5py.ExternalLink("other.h5", path)

        for says, make in [
            ("line 2 is 'b', must be one token id", lambda: self.text("ids", b"1\nb\n")),
            ("line 3 is '1 2', must be one", lambda: self.text("ids", b"1\n2\n1 2\n")),
            ("line 1 is '-1'", lambda: self.text("ids", b"-1\n")),
            ("line 1 is 'xxxx", lambda: self.text("ids", b"x" * 300000)),
            ("is 256, must be one from 0 to 255", lambda: self.text("ids", b"256\n")),
            ("of float64, must be [sequence]", lambda: hdf5(data=[1.5])),
            ("[1, 1, 2] of int64, must be", lambda: hdf5(data=[[[1, 2]]])),
            ("/input_ids has no elements in this file", lambda: hdf5(shape=(3,), dtype="i4")),
            ("has neither /inputs/input_ids nor /input_ids", lambda: hdf5("x", data=[1])),
            ("has neither", lambda: link("input_ids")),
            ("id 1 of row 0 is -3", lambda: hdf5(data=[1, -3])),
            ("attention_mask is [2], /input_ids is [3]", lambda: (hdf5("attention_mask", data=[1, 1]), self.add("ids", [1, 2, 3]))),
            ("argument --tokenizer is needed", lambda: hdf5(data=[1], attributes=dict(tokenizer=np.bytes_(b"sha256:1")))),
            ("cannot be read: ", lambda: (hdf5(data=np.arange(200)), os.truncate(self.path("ids"), 900))),
            ("of float64, must be", lambda: self.npy(np.zeros(3))),
            ("[] of int64, must be", lambda: self.npy(np.int64(3))),
            ("cannot be read: ", lambda: self.npy(np.array([None]))),
            ("cannot be read: ", lambda: (self.npy(np.arange(30)), os.truncate(self.path("ids"), 200))),
        ]:
            with self.subTest(says):
                make()
                done = tool_here("decode", self.path("ids"), "--output", self.path("out"))
                self.refused(done, USAGE if "argument" in says else FILE, [self.path("ids"), says])
        self.small_parts()
        self.refused(tool_here("decode", self.text("ids", b"72\n" * 20 + b"H\n"), "--output", self.path("out")), FILE, "line 21 is 'H'")
        for source in (self.path("absent"), self.folder):
            self.refused(tool_here("decode", source, "--output", self.path("out")), FILE, source + ": cannot be read: ")
            self.refused(tool_here("encode", source, "--output", self.path("out.h5")), FILE, source + ": cannot be read: ")
        self.refused(tool_here("decode", self.text("ids", b"1\n") + ":/x", "--output", self.path("out")), FILE, "is not an HDF5 file")

    def add(self, name, ids):
        with h5py.File(self.path(name), "a") as file:
            file["input_ids"] = ids

    def npy(self, array):
        with open(self.path("ids"), "wb") as file:
            np.save(file, array, allow_pickle=True)

    def test_a_full_disk_leaves_nothing(self):
        def little():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

        source = self.text("text", random.Random(1).randbytes(2_000_000))
        for output in ("out.h5", "out.npy"):
            done = tool("encode", source, "--output", self.path(output), before=little)
            self.refused(done, OUTPUT, [self.path(output) + ": cannot be written: ", "File too large"])
        np.save(self.path("ids.npy"), np.fromfile(source, "u1"))
        self.refused(tool("decode", self.path("ids.npy"), "--output", self.path("out"), before=little), OUTPUT, "File too large")
        for output in (["--output", "/dev/full"], ["--output", self.path("no/out")]):
            self.refused(tool("decode", self.path("ids.npy"), *output), OUTPUT, output[1] + ": cannot be written: ")
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-B", TOOL, "decode", self.path("ids.npy")], stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=60)
        self.assertEqual((done.returncode, done.stderr),
                         (OUTPUT, f"{PROGRAM}: error: standard output: cannot be written: No space left on device\n"))

    def test_what_was_there_is_replaced_only_by_what_is_whole(self):
        self.encoded(b"old")
        np.save(self.path("bad.npy"), np.array([72] * 100_000 + [300]))
        self.text("back", b"old")
        self.check_failure(tool_here("decode", self.path("bad.npy"), "--output", self.path("back")), PROGRAM, FILE, "id 100000 of row 0 is 300")
        self.assertEqual(self.content("back"), b"old")
        self.assertEqual(self.encoded(b"new").tobytes(), b"new")
        self.assertEqual(sorted(os.listdir(self.folder)), ["back", "bad.npy", "ids.h5", "text"])

    def test_help_and_complaints_do_without_packages_and_missing_ones_are_named(self):
        for name in ("numpy", "h5py", "tokenizers"):
            self.text(f"{name}.py", f"raise ImportError('No module named {name}', name='{name}')\n".encode())
        source, broken = self.text("text", b"abc"), dict(PYTHONPATH=self.folder, PATH=self.folder)
        self.assertEqual(tool("encode", "--help", PYTHONIOENCODING="ascii", **broken).code, 0)
        self.refused(tool("encode", source, **broken), USAGE, "--output")
        for name in ("numpy", "h5py", "tokenizers"):
            arguments = ["--tokenizer", source] if name == "tokenizers" else []
            self.refused(tool("encode", source, "--output", self.path("out.h5"), *arguments, **broken), NO_PACKAGE,
                         [f"{sys.executable} cannot load {name}: ", f"hint: {HINTS[name]}"])
            os.remove(self.path(f"{name}.py"))

    def test_without_hdf5_there_is_npy(self):
        self.text("h5py.py", b"raise ImportError('No module named h5py', name='h5py')\n")
        source = self.text("text", b"abc")
        self.assertEqual(tool("encode", source, "--output", self.path("ids.npy"), PYTHONPATH=self.folder).code, 0)
        self.assertEqual(tool("decode", self.path("ids.npy"), PYTHONPATH=self.folder).out, b"abc")


if __name__ == "__main__":
    unittest.main(verbosity=2)
