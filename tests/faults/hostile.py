"""Hypothesis strategies for studies and data files that are broken, or made to harm."""

import functools
import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import yaml
from hypothesis import strategies as st

from gsvae_tune.search import studies
from gsvae_tune.study.loading import read_yaml

SECRET = "s3cretPassw0rd"  # noqa: S105 - in the storage of every mutated study; no message may show it

# Studies ----------------------------------------------------------------------------------------


def _secretive(raw):
    return raw | {"storage": f"postgresql://me:{SECRET}@host/db"}


WHOLE = [_secretive(read_yaml(path)) for path in studies.shipped().values()]

HOSTILE_TEXT = [
    "../x", "/etc/passwd", "..", ".", "", "a/b", "a\nb", "a\n", "x" * 5000, "-rf", "$(reboot)", "`id`",
    "\x1b[31mred", "\x1b]0;owned\x07", "\x9b2J", "\x7f", "\u202egpj.exe", "\u2066x\u2069", "a\0b",
    "[bold]x[/bold]", "[/nothing]", "[link=http://x]y[/link]", "{0}", "%s%n", "é" * 70, "con",
    "postgresql://me@host/db", "!!python/object:os.system", "*a", "&a", "<<", "null", "~", ".nan", "1e999",
]  # fmt: skip

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, -1, 2**63, 10**400, 1e308, 5e-324]),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from(HOSTILE_TEXT),
    st.binary(max_size=10),
    st.dates(),
)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["low", "high", "when", "x", "storage"]) | scalars, inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=12,
)  # fmt: skip


def _places(raw, path=()):
    """Every path to a value in a nested one."""
    yield path
    items = (
        raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    )
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _changed(raw, path, change):
    """A copy with what stands at ``path`` replaced by ``change`` of its parent and key."""
    if len(path) == 1:
        copy = dict(raw) if isinstance(raw, dict) else list(raw)
        change(copy, path[0])
        return copy
    copy = dict(raw) if isinstance(raw, dict) else list(raw)
    copy[path[0]] = _changed(raw[path[0]], path[1:], change)
    return copy


@st.composite
def mutated_studies(draw):
    """A shipped study with one to three faults: types, ranges, unknown keys, missing sections."""
    raw = draw(st.sampled_from(WHOLE))
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in _places(raw) if path]
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        kind = draw(st.sampled_from(["replace", "delete", "unknown", "wrap", "rename", "text"]))
        value = draw(nested)
        name = draw(
            st.sampled_from(HOSTILE_TEXT) | st.text(st.characters(codec="utf-8"), max_size=8)
        )

        def change(parent, key, kind=kind, value=value, name=name):
            if kind == "delete":
                del parent[key]
            elif kind == "wrap":
                parent[key] = [parent[key]]
            elif kind == "text":
                parent[key] = name
            elif kind == "replace" or isinstance(parent, list):
                parent[key] = value
            elif kind == "rename":
                parent[name] = parent.pop(key)
            else:
                parent[name] = value

        raw = _changed(raw, path, change)
    return yaml.dump(raw, allow_unicode=draw(st.booleans()), sort_keys=False).encode()


FRAGMENTS = [
    "{", "}", "[", "]", ":", ": ", "- ", "\n", "\n  ", "\n    ", ", ", "&a ", "*a", "<<: ", "!!int ", "!!float ",
    "!!map ", "!!str ", "!!set ", "!!binary ", "!!python/name:os.system ", "!<x> ", "? ", "| ", "> ", "|9\n",
    '"', "'", "%TAG ! x\n", "%YAML 1.1\n", "---\n", "...\n", "\t", "#", "\\", '"\\ud800"', '"\\x00"',
    '"\\UFFFFFFFF"', "name", "arms", "pair", "space", "storage", "1", "1e9", ".nan", "~", "=", "é", "\u2028", "\x85",
    "\ufeff", "%", "@", "`",
]  # fmt: skip
rubbish = st.one_of(
    st.text(max_size=400).map(lambda text: text.encode(errors="surrogatepass")),
    st.binary(max_size=400),
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map(lambda parts: "".join(parts).encode()),
    st.sampled_from(WHOLE).flatmap(
        lambda raw: st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map(
            lambda parts: (yaml.dump(raw) + "".join(parts)).encode()
        )
    ),
    st.builds(
        lambda raw, at, byte: _flipped(yaml.dump(raw).encode(), at, byte),
        st.sampled_from(WHOLE), st.floats(0, 1, exclude_max=True), st.integers(0, 255),
    ),
    st.builds(
        lambda raw, at: yaml.dump(raw).encode()[: int(at * 600)],
        st.sampled_from(WHOLE), st.floats(0, 1),
    ),
    st.text(max_size=20).map(lambda text: text.encode("utf-16", errors="surrogatepass")),
)  # fmt: skip


def _flipped(content, at, byte):
    place = int(at * len(content))
    return content[:place] + bytes([byte]) + content[place + 1 :]


def _levels(first, each, last=""):
    return first + "".join(each) + last


size = st.integers(1, 60_000)
deep = st.integers(1, 25_000)
bombs = st.one_of(
    # aliases of aliases
    st.builds(
        lambda levels, width: _levels(
            "a0: &a0 [" + "x," * width + "]\n",
            [f"a{n}: &a{n} [" + f"*a{n - 1}," * width + "]\n" for n in range(1, levels)],
        ),
        st.integers(2, 60), st.integers(1, 300),
    ),
    # mappings merged into each other
    st.builds(
        lambda levels, width: _levels(
            "a0: &a0 {" + ",".join(f"k{i}: 1" for i in range(width)) + "}\n",
            [f"a{n}: &a{n} {{<<: [" + f"*a{n - 1}," * width + "]}\n" for n in range(1, levels)],
        ),
        st.integers(2, 60), st.integers(1, 100),
    ),
    # one long text, many times
    st.builds(
        lambda long, times: f"a: &a {'x' * long}\narms: [" + "*a," * times + "]\n",
        st.integers(1, 90_000), st.integers(1, 20_000),
    ),
    # inside itself
    st.sampled_from(
        ["&a [*a]", "&a {x: *a}", "a: &a [[*a]]", "a: &a {<<: *a}", "a: &a {<<: [*a, *a]}", "&a {*a : 1}"]
    ),
    # depth
    st.builds(lambda n, form: form * n, deep, st.sampled_from(["[", "{a: ", "- ", "? ", "{? ", "[[],", "!!map {", "&a ["])),
    st.builds(lambda n: "[" * n + "]" * n, deep),
    st.builds(lambda n: "arms: " + "{a: " * n + "1" + "}" * n, deep),
    st.builds(lambda n: "".join("  " * i + "a:\n" for i in range(min(n, 400))), deep),
    st.builds(lambda n: "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, n)), st.integers(33, 4000)),
    # size: of the file, of a number, of a key, of a list; beside a study that is whole but for it
    st.builds(
        lambda n, form: form.replace("N", "1" * n).replace("K", "k" * n),
        st.integers(5_000, 99_000),
        st.sampled_from(["seed: N", "seed: N.0", "seed: 0.N", "seed: 1e-N", "K: 1", "? K\n: 1", "seed: !!int N", "seed: !!float 'N'",
                         "name: K", "description: [K]", "- K", "seed: -N", "seed: !!int '1:1N'", "data: {source: K}", "storage: [K]"]),
    ),
    st.builds(lambda n, form: form * n, st.integers(30_000, 200_000), st.sampled_from(["#", "\n", " ", "a", "- \n", "a: 1\n", "é"])),
    st.builds(lambda n: "arms: [" + "[]," * n + "]", size),
    st.builds(lambda n: "\n".join(f"k{i}: 1" for i in range(n)), st.integers(1, 12_000)),
    st.builds(lambda n: "arms: {" + ",".join(f"a{i}: {{method: yoked}}" for i in range(n)) + "}", st.integers(1, 5_000)),
    st.builds(lambda n: "arms: {pair: {space: {period: [" + ",".join(map(str, range(n))) + "]}}}", st.integers(1, 15_000)),
    st.builds(lambda n: "arms: {pair: {}}\nmodel: {hidden: [" + "x," * n + "]}", size),
    st.builds(lambda n: "arms: &a {" + ",".join(f"p{i}: &p {{q: 1}}" for i in range(n)) + "}", st.integers(1, 4_000)),
    st.builds(lambda n: "%TAG ! " + "x" * n + "\n---\n!a b", size),
    st.builds(lambda n: "a: '" + "\\x41" * n + "'\nb: \"" + "\\x41" * (n // 4), st.integers(1, 20_000)),
).map(lambda text: text.encode()[:300_000])  # fmt: skip


@st.composite
def hostile_names(draw):
    """A whole study with a hostile text for a name, an arm, a path or a choice."""
    raw = dict(WHOLE[0])
    text = draw(st.sampled_from(HOSTILE_TEXT) | st.text(st.characters(codec="utf-8"), max_size=12))
    where = draw(
        st.sampled_from(
            ["name", "arm", "source", "key", "rule", "baseline", "setting", "of", "table", "method"]
        )
    )
    if where == "name":
        raw["name"] = text
    elif where == "arm":
        raw["arms"] = {text: {"method": "pair"}, "pair": {}}
    elif where == "source":
        raw["data"] = {"source": text}
    elif where == "key":
        raw[text] = 1
    elif where == "rule":
        raw["arms"] = {"pair": {"space": {"rule_a": [text]}}}
    elif where == "baseline":
        raw["protocol"] = {"baseline": text, "comparisons": [["pair", text]]}
    elif where == "setting":
        raw["arms"] = {"pair": {"space": {text: 1.0}}}
    elif where == "of":
        raw["arms"] = {"pair": {}, "yoked": {"of": text}}
    elif where == "table":
        raw["simulate"] = {"table": text}
    else:
        raw["arms"] = {"mine": {"method": text}}
    return yaml.dump(raw, allow_unicode=draw(st.booleans())).encode()


file_names = st.just("mine.yaml") | st.sampled_from(
    ["..yaml", "a b;c$(x).yaml", "\x1b]0;owned\x07.yaml", "\u202elmay.yaml", "[red]x.yaml", "é.yaml", "-x.yaml", "\udcff.yaml", "a\nb.yaml"]
)  # fmt: skip

# (the file's name, what it holds)
malformed_studies = st.tuples(
    file_names, st.one_of(mutated_studies(), mutated_studies(), rubbish, bombs, hostile_names())
)

# Data files -------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 5, 5), dtype=np.uint8)
ODD_SIZES = [0, 1, 2, 79, 81, 2**16, 2**31, 2**32 - 1]


def idx(shape=IMAGES.shape, content=None, magic=0x803):
    pixels = IMAGES.tobytes() if content is None else content
    return struct.pack(">IIII", magic, *shape) + pixels


@st.composite
def _cut_or_flipped(draw, whole, header=40):
    """Bytes that are cut, or wrong in a few places, mostly of the header or the end."""
    if draw(st.booleans()):
        return whole[: draw(st.integers(0, len(whole) - 1))]
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(
            st.integers(0, min(header, len(whole)) - 1)
            | st.integers(0, len(whole) - 1)
            | st.integers(max(0, len(whole) - 200), len(whole) - 1)
        )
        content[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(content)


@functools.cache
def packed_zeros(start=b"", count=300 * 2**20, kind=31):
    """Return ``start`` and ``count`` zeros, deflated in pieces: what is big is made when wanted."""
    packer = zlib.compressobj(1, zlib.DEFLATED, kind)
    piece = bytes(2**20)
    parts = [packer.compress(start), *(packer.compress(piece) for _ in range(count // len(piece)))]
    return b"".join([*parts, packer.compress(bytes(count % len(piece))), packer.flush()])


odd_shapes = st.tuples(*[st.sampled_from(ODD_SIZES) | st.integers(0, 2**32 - 1)] * 3)
idx_files = st.one_of(
    _cut_or_flipped(idx(), 16).map(lambda content: ("plain", content)),
    _cut_or_flipped(gzip.compress(idx()), 30).map(lambda content: ("packed", content)),
    odd_shapes.map(lambda shape: ("plain", idx(shape))),
    odd_shapes.map(lambda shape: ("packed", gzip.compress(idx(shape)))),
    st.integers(0, 2**32 - 1).map(lambda magic: ("packed", gzip.compress(idx(magic=magic)))),
    st.sampled_from([b"x", b"\0" * 70_000, idx()]).map(lambda more: ("packed", gzip.compress(idx()) + more)),
    st.binary(max_size=100).map(lambda content: ("packed", content)),
    st.binary(max_size=100).map(lambda content: ("packed", b"\x1f\x8b\x08" + content)),
    # bombs: promised and kept, promised and not kept, a name that does not end, empty parts
    st.sampled_from([(1000, 28, 28), (400_000, 28, 28), (400_001, 28, 28), (2**20, 17, 18)]).map(
        lambda shape: ("packed", packed_zeros(idx(shape, b"")))
    ),
    st.builds(lambda: ("packed", packed_zeros())),
    st.builds(lambda: ("packed", b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 3_000_000)),
    st.builds(lambda: ("packed", gzip.compress(b"") * 60_000 + gzip.compress(idx()))),
    st.sampled_from([("folder", b""), ("packed", b""), ("plain", b""), ("pipe", b"")]),
)  # fmt: skip


def npz(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(text, version=1):
    """An npy file's beginning with any text for a header."""
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin1")


def _header(descr, shape, order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


class Reboot:
    def __reduce__(self):
        import os

        return os.abort, ()


WRONG_ARRAYS = [
    IMAGES.astype(np.int64), IMAGES.astype(np.float32), np.full((80, 25), np.nan), np.full((80, 25), np.inf),
    np.full((80, 25), -0.1), IMAGES.astype(complex), IMAGES.astype("U3"), IMAGES.astype("S3"), IMAGES[:0], IMAGES[0, 0],
    IMAGES[0, 0, 0], IMAGES[:3], np.zeros((1, 1, 1, 1), np.uint8), np.array([[Reboot()]], object),
    np.zeros((80, 25), [("a", "u1")]), np.zeros((80, 25), "datetime64[s]"), np.zeros((80, 25), ">u4"),
]  # fmt: skip
HEADERS = [
    _header("'|u1'", "(4000000000, 4000000000, 4000000000)"), _header("'|u1'", "(-1, 25)"), _header("'|u1'", "(80, 5, -5)"),
    _header("'|u1'", "(10000000, 25)"), _header("'<f8'", "(80, 25)"), _header("'|O'", "(80, 25)"), _header("'|V4000000000'", "(1, 1)"),
    _header("'<U1000000000'", "(1, 1)"), _header("[('a', '|u1')]", "(80, 25)"), _header("'|u1'", "80"), _header("'|u1'", "(80.0, 25)"),
    _header("'|u1'", "(80, 25)", "1"), _header("'nonsense'", "(80, 25)"), _header("'|u1'", "(" + "9" * 9000 + ", 1)"),
    "(" * 9000, "-" * 9000, "[" * 9000 + "]" * 900, "{}", "", "\0", "{'descr': ", "open('/tmp/x', 'w')", "9" * 9000,
    _header("'|u1'", "(80L, 25L)") + " extra",
]  # fmt: skip
whole_npz = npz([("images.npy", npy(IMAGES))])
GREY = npy(IMAGES)


def encrypted():
    content = bytearray(whole_npz)
    central = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[central + 8] |= 1
    return bytes(content)


def lying(size=None, packed=None):
    """An archive whose table of contents says another size."""
    content = bytearray(whole_npz)
    central = content.index(b"PK\x01\x02")
    if packed is not None:
        content[central + 20 : central + 24] = struct.pack("<I", packed)
    if size is not None:
        content[central + 24 : central + 28] = struct.pack("<I", size)
    return bytes(content)


def many_members():
    """An archive with a million members, or so its table of contents has it."""
    entry = b"PK\x01\x02" + bytes(42)
    table = entry * 300_000
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(table), 0, 0)
    return table + end


BIG_HEADER = npy_header(_header("'|u1'", "(400000, 28, 28)"))
FLOATS = npy_header(_header("'<f8'", "(20000, 28, 28)"))
MIB = 2**20
BOMBS = {  # what is big is made when wanted
    "longer than it says": lambda: npz([("images.npy", BIG_HEADER + bytes(300 * MIB))]),
    "as long as it says": lambda: npz([("images.npy", BIG_HEADER + bytes(400_000 * 784))]),
    "two": lambda: npz([("images.npy", BIG_HEADER + bytes(100 * MIB)), ("test_images.npy", BIG_HEADER + bytes(150 * MIB))]),
    "wrong at the end": lambda: npz([("images.npy", FLOATS + bytes(20_000 * 784 * 7) + b"\xff" * (20_000 * 784))]),
    "header": lambda: npz([("images.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 190 * MIB) + bytes(190 * MIB))]),
    "table of contents": many_members,
    "members": lambda: npz([(f"a{i}", b"") for i in range(5000)]),
}  # fmt: skip
bomb = functools.cache(lambda which: BOMBS[which]())
npz_files = st.one_of(
    _cut_or_flipped(whole_npz, 60),
    _cut_or_flipped(npz([("images.npy", GREY)], zipfile.ZIP_STORED), 60),
    _cut_or_flipped(GREY, 128).map(lambda content: npz([("images.npy", content)])),
    _cut_or_flipped(GREY, 128).map(lambda content: npz([("images.npy", content)], zipfile.ZIP_STORED)),
    st.sampled_from(WRONG_ARRAYS).map(lambda array: npz([("images.npy", npy(array))])),
    st.sampled_from(WRONG_ARRAYS).map(lambda array: npz([("images.npy", GREY), ("test_images.npy", npy(array))])),
    st.builds(
        lambda text, version, method: npz([("images.npy", npy_header(text, version) + IMAGES.tobytes())], method),
        st.sampled_from(HEADERS), st.sampled_from([1, 2, 3, 9]), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    ),
    st.text(st.characters(codec="latin1"), max_size=80).map(lambda text: npz([("images.npy", npy_header(text))])),
    st.builds(lying, st.sampled_from([None, 0, 1, 2**20, 2**32 - 1]), st.sampled_from([None, 0, 1, 2**20, 2**32 - 2])),
    st.sampled_from([
        b"", b"PK\x03\x04 torn", b"PK\x05\x06" + bytes(18), pickle.dumps([1]), GREY, gzip.compress(GREY),
        npz([]), npz([("pictures.npy", GREY)]), npz([("images.npy", b"")]), npz([("images", b"no array")]), npz([("images.npy/", b"")]),
        npz([("../images.npy", GREY)]), npz([("images.npy", GREY), ("images", GREY)]), npz([("images.npy", GREY + b"more")]),
        npz([("images.npy", GREY)], zipfile.ZIP_BZIP2), npz([("images.npy", GREY)], zipfile.ZIP_LZMA), encrypted(),
        npz([("images.npy", pickle.dumps(Reboot()))]),
]),
    st.sampled_from([*BOMBS]).map(bomb),
).map(lambda content: ("npz", content))  # fmt: skip

malformed_data = idx_files | npz_files
