"""Text into token ids and back, in parts that fit into memory and have the ids of the whole. Used by tokens.py.

A coder has a `name`, which tells it from all others, a `vocab_size`, and encode(blocks of bytes) and decode(arrays of ids), generators that
take and give a text part by part. decode takes only ids that the coder has; `known` says of each whether it has it.
"""
import codecs
import hashlib
import itertools
import re

import numpy as np
from command_line import BAD_INPUT, Failure, unusable

# Where parts of a text may end: before a space, and after a line, between two letters or signs. Most tokenizers begin a token there in
# either case; each place is tried before it is used.
CUT = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
PART = 2**16  # characters, or ids, that are coded at a time
BATCH = 16  # parts of a text that are encoded at the same time, by several threads
CONTEXT = 256  # characters, or ids, on either side of a cut that it is tried with
TRIES = 32  # cuts that are tried near the end of a part
LONGEST = 2**22  # characters, or ids, that are coded at once where no cut is possible


class Bytes:
    """An id for each byte."""

    name, vocab_size = "bytes", 256
    known = np.ones(256, bool)

    def encode(self, blocks):
        return (np.frombuffer(block, np.uint8) for block in blocks)

    def decode(self, arrays):
        return (ids.astype(np.uint8).tobytes() for ids in arrays)


class Tokenizer:
    """A tokenizer file of Hugging Face, tokenizer.json. Special tokens are only those that the text has."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                content = file.read()
            text = content.decode("utf-8")
        except (OSError, ValueError) as error:
            raise Failure(BAD_INPUT, f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        self.name = "sha256:" + hashlib.sha256(content).hexdigest()
        self._tokenizer = load(path, text)
        self._encode_batch = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)  # older versions have one only
        ids = np.fromiter(self._tokenizer.get_vocab().values(), np.int64)
        if not len(ids):
            raise Failure(BAD_INPUT, f"{path}: has no tokens")
        self.vocab_size = int(ids.max()) + 1
        self.known = np.zeros(self.vocab_size, bool)
        self.known[ids] = True

    def encode(self, blocks):
        parts = self.parts_of(texts_of(blocks))
        while batch := list(itertools.islice(parts, BATCH)):
            for encoding in self._encode_batch(batch, add_special_tokens=False):
                yield np.array(encoding.ids, np.int64)

    def parts_of(self, texts):
        """Parts of a text whose ids, one after another, are those of the whole."""
        text, wanted = "", PART
        for more in texts:
            text += more
            if len(text) < wanted + CONTEXT:
                continue
            if cut := self.place_to_cut(text):
                yield text[:cut]
                text, wanted = text[cut:], PART
            elif len(text) > LONGEST:
                raise Failure(BAD_INPUT, f"{self.path}: a text as long as this one cannot be encoded: in {len(text)} characters there is no "
                              "place to cut that would leave its ids as they are", "cut the text into files of at most 4 million characters")
            else:
                wanted = len(text) + PART
        if text:
            yield text

    def place_to_cut(self, text):
        """The last place near the end where cutting does not change the ids; 0 if there is none."""
        places = [found.start() for found in CUT.finditer(text, max(0, len(text) - PART), len(text) - CONTEXT)]
        for place in reversed(places[-TRIES:]):
            before, after = text[max(0, place - CONTEXT):place], text[place:place + CONTEXT]
            if self.ids_of(before + after) == self.ids_of(before) + self.ids_of(after):
                return place
        return 0

    def ids_of(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, arrays):
        ids, begin = [], 0  # those before `begin` are decoded, and what is decoded next depends on them
        for more in arrays:
            ids += more.tolist()
            if len(ids) - begin < PART + CONTEXT:
                continue
            if end := self.place_to_end(ids, begin):
                yield self.text_between(ids, begin, end)
                ids, begin = ids[max(0, end - CONTEXT):], min(end, CONTEXT)
            elif len(ids) - begin > LONGEST:
                raise Failure(BAD_INPUT, f"{self.path}: so many ids cannot be decoded: {len(ids) - begin} of them have no place to cut that "
                              "would leave the text as it is", "decode at most 4 million at a time")
        yield self.text_between(ids, begin, len(ids))

    def place_to_end(self, ids, begin):
        """The last place near the end where the text of the ids before it is the beginning of the text of all; 0 if there is none.

        It is not where a character has some of its bytes in the ids before, and some in those after.
        """
        for end in range(len(ids) - CONTEXT, max(begin, len(ids) - CONTEXT - TRIES), -1):
            before = ids[max(0, end - CONTEXT):end]
            if self.text_of(before + ids[end:end + CONTEXT]).startswith(self.text_of(before)):
                return end
        return 0

    def text_between(self, ids, begin, end):
        return self.text_of(ids[:end])[len(self.text_of(ids[:begin])):].encode("utf-8")

    def text_of(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=False) if ids else ""


def load(path, text):
    """The tokenizer of the library tokenizers. What a file says of lengths, of cutting off and filling up, is for other uses."""
    try:
        import tokenizers
    except ImportError as error:
        raise unusable(error, "tokenizers", "h5py") from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library has no exceptions of its own
        raise Failure(BAD_INPUT, f"{path}: is not a tokenizer file: {error}", "it is called tokenizer.json where transformers save a "
                      "tokenizer; the library `tokenizers` must be as new as the file") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def texts_of(blocks):
    """The text of blocks of bytes, in UTF-8."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    for block in itertools.chain(blocks, (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise Failure(BAD_INPUT, f"the text is not UTF-8 at byte {done - held + error.start}: {error.reason}",
                          "iconv -t utf-8 converts a text; without --tokenizer ids are the bytes of any file") from None
        done += len(block)
        yield text
