"""Mutated files for every reader: no crash, hang, wild memory, traceback, patient's name or silently wrong picture.

    python tools/fuzz.py --count 2000 --seed 1 --jobs 1

Files are made here and mutated by seed and number, so that every case can be had again (``--show NUMBER`` writes it).
Readers run in child processes; a case over its time or memory ends its child and is recorded. Every case is a line of
the log, and a run goes on after the last of them. The exit code is 1 if anything but pictures and refusals was met.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

HEIGHT, WIDTH = 96, 80
NAMES = {"PatientName": "FEATHERSTON^QUINTILIA", "PatientID": "QX7301ZWKV", "AccessionNumber": "ACC55501J"}
MEMORY = 600  # MB that a case may add to the peak of its child
GOOD = ("read", "refused")
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFDC, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """One small file of every kind, always the same."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 12, (HEIGHT, WIDTH))
    gray = (y + x + 30 * np.sin(x / 7) + 30 * np.cos(y / 9) + noise).clip(0, 255).astype(np.uint8)
    return {**_pictures(gray), **_dicom(gray), **_weights(), **_recipes(), **_tables()}


def _pictures(gray: np.ndarray) -> dict[str, bytes]:
    import cv2
    from PIL import Image

    def encode(array: np.ndarray, kind: str, **options) -> bytes:
        file = io.BytesIO()
        Image.fromarray(array).save(file, kind, **options)
        return file.getvalue()

    colour, deep = np.dstack([gray] * 3), gray.astype(np.uint16) * 200
    return {
        "png": encode(gray, "PNG"),
        "png colour": encode(colour, "PNG"),
        "png 16": encode(deep, "PNG"),
        "png 16 colour": cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes(),
        "jpeg": encode(gray, "JPEG", quality=90),
        "jpeg colour": encode(colour, "JPEG", quality=90),
        "jpeg progressive": encode(gray, "JPEG", progressive=True),
        "tiff": encode(gray, "TIFF"),
        "tiff 16": encode(deep, "TIFF"),
        "tiff lzw": encode(gray, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encode(colour, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": encode(gray, "BMP"),
        "bmp colour": encode(colour, "BMP"),
        "webp": encode(colour, "WEBP", lossless=True),
    }


def _dicom(gray: np.ndarray) -> dict[str, bytes]:
    import cv2
    import pydicom
    from pydicom import uid
    from pydicom.dataset import FileDataset, FileMetaDataset

    def encode(syntax: str, values: np.ndarray, stream: bytes | None = None) -> bytes:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.3.4", uid.ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
        dataset.Modality, dataset.StudyDescription = "DX", "chest of " + NAMES["PatientName"]
        for keyword, name in NAMES.items():
            setattr(dataset, keyword, name)
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *values.shape, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        bits = dataset.BitsAllocated = 8 * values.dtype.itemsize
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
        dataset.PixelData = values.tobytes()
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
        if syntax == uid.RLELossless:
            dataset.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        elif stream is not None:
            dataset.PixelData = pydicom.encaps.encapsulate([stream])
            dataset["PixelData"].is_undefined_length = True
        meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    deep = gray.astype(np.uint16) * 256
    return {
        "dicom": encode(uid.ExplicitVRLittleEndian, deep),
        "dicom implicit": encode(uid.ImplicitVRLittleEndian, deep),
        "dicom deflated": encode(uid.DeflatedExplicitVRLittleEndian, deep),
        "dicom rle": encode(uid.RLELossless, deep),
        "dicom jpeg": encode(uid.JPEGBaseline8Bit, gray, cv2.imencode(".jpg", gray)[1].tobytes()),
        "dicom jpeg 2000": encode(uid.JPEG2000Lossless, gray, cv2.imencode(".jp2", gray)[1].tobytes()),
    }


def _weights() -> dict[str, bytes]:
    import h5py

    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 4)).astype(np.float32)
    ours, legacy = io.BytesIO(), io.BytesIO()
    with h5py.File(ours, "w") as file:
        file["layers/conv2d/vars/0"], file["layers/conv2d/vars/1"] = kernel, kernel[0, 0, 0]
        file.attrs["covidcxnet"] = json.dumps({"format": 1, "kind": "classifier", "labels": ["a", "b"]})
    with h5py.File(legacy, "w") as file:
        file.attrs["layer_names"], file.attrs["backend"] = [b"conv2d"], b"tensorflow"
        group = file.create_group("conv2d")
        group.attrs["weight_names"] = [b"conv2d/kernel:0", b"conv2d/bias:0"]
        group["conv2d/kernel:0"], group["conv2d/bias:0"] = kernel, kernel[0, 0, 0]
    return {"weights": ours.getvalue(), "weights legacy": legacy.getvalue()}


def _recipes() -> dict[str, bytes]:
    plain = "model: covid-cxnet\nepochs: 3\ninput: {size: 320, region: crop}\naugment: {rotation: 9}\n"
    aliases = (
        "input: &a {size: 64}\nbatch_size: &b 8\nmodel: base-cnn\nepochs: *b\nabout: {notes: &c [a, b], chosen: *c}\n"
    )
    return {"recipe": plain.encode(), "recipe aliases": aliases.encode()}


def _tables() -> dict[str, bytes]:
    rows = [(f"{i}.png", ("normal", "covid19")[i % 2], f"p{i // 2:03d}", 30.5 + i) for i in range(12)]
    plain = "path,label,patient,age\n" + "".join(f"{p},{label},{who},{age}\n" for p, label, who, age in rows)
    european = "image;class;note\n" + "".join(f'{p};{label};"a; ""b"" {age}"\n' for p, label, _, age in rows)
    lists = [f"{p},{('Mass|Effusion', 'No Finding')[label == 'normal']}\n" for p, label, _, _ in rows]
    findings = "path,Finding Labels\n" + "".join(lists)
    return {"table": plain.encode(), "table semicolons": european.encode("utf-16"), "table findings": findings.encode()}


def mutate(seed: int, number: int, files: dict[str, bytes]) -> tuple[str, bytes, bool]:
    """The kind of a case, its bytes, and whether fills were written that may pass for missing rows."""
    random = np.random.default_rng((seed, number))
    kind = list(files)[number % len(files)]
    data, filled = bytearray(files[kind]), False
    for _ in range(int(random.integers(1, 5))):
        # Headers decide what a reader does: half of all changes go there.
        size = max(1, len(data) if random.random() < 0.5 else min(len(data), 700))
        at, length = int(random.integers(size)), int(2 ** random.uniform(0, 8))
        change = random.integers(9)
        if change == 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << int(random.integers(8))]) if data else b""
        elif change == 1:
            data[at : at + 1] = random.bytes(1)
        elif change in (2, 3):
            width, order = int(random.choice([1, 2, 4])), "little" if random.random() < 0.5 else "big"
            value = int(random.choice(INTERESTING)) & (1 << 8 * width) - 1
            data[at : at + width] = value.to_bytes(width, order)
        elif change == 4:
            del data[at : at + length]
        elif change == 5:
            data[at:at] = data[at : at + length]
        elif change == 6:
            data[at:at] = random.bytes(length)
        elif change == 7:
            del data[int(random.integers(len(data) + 1)) :]
        else:
            data[at : at + 8 * length], filled = bytes([int(random.choice([0, 255]))]) * 8 * length, True
    # Without right checksums nearly every change of a PNG file ends at the first check.
    return kind, _with_checksums(bytes(data)) if kind.startswith("png") and number % 3 else bytes(data), filled


def _with_checksums(data: bytes) -> bytes:
    parts, start = [data[:8]], 8
    while start + 12 <= len(data):
        length = struct.unpack_from(">I", data, start)[0]
        body = data[start + 4 : start + 8 + length]
        parts.append(data[start : start + 4] + body + struct.pack(">I", zlib.crc32(body)))
        start += 12 + length
    return b"".join([*parts, data[start:]])


def read(kind: str, path: Path) -> np.ndarray | None:
    """Read a file as the project reads files of its kind; pixels, if it has any."""
    if kind.startswith("weights"):
        from weights.format import open_weights
        from weights.hdf5 import open_plain

        if open_weights(path).layout == "keras-3":  # arrays of the older layout are read with it
            with open_plain(path) as file:
                file.visititems(lambda _, item: item[()] if hasattr(item, "dtype") else None)
        return None
    if kind.startswith("recipe"):
        from covidcxnet.training.arguments import load_recipe

        load_recipe(path)
        return None
    if kind.startswith("table"):
        from covidcxnet.datasets.load import load

        load(path, task="independent" if "findings" in kind else "exclusive", for_training=False)
        return None
    from enhancement.dicom import read_case
    from enhancement.errors import RadiographError
    from enhancement.radiograph import read_radiograph

    refusal = None
    if kind.startswith("dicom"):
        try:
            read_case(path, b"key of sixteen bytes")
        except RadiographError as error:
            refusal = error
    pixels = read_radiograph(path)
    if refusal is not None and "unpack" not in refusal.reason:
        print(refusal, file=sys.stderr)  # a header that is damaged where no pixel depends on it
    return pixels


def missing_rows(pixels: np.ndarray, whole: np.ndarray) -> int:
    """Rows at the end of one grey level each, where the undamaged picture has more."""
    if pixels.shape != whole.shape:
        return 0
    flat = (np.ptp(pixels, axis=1) == 0) & (np.ptp(whole, axis=1) > 0)
    return int(np.argmin(flat[::-1])) if not flat.all() else len(flat)


def judge(kind: str, path: Path, whole: np.ndarray | None, filled: bool) -> tuple[str, str]:
    """Verdict on one file and a line about it."""
    from enhancement.errors import InputError

    try:
        pixels = read(kind, path)
    except InputError as error:
        text = str(error).replace(str(path), "FILE")  # a command shortens it
        return ("lines" if "\n" in text else "refused"), text[:200]
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
    if pixels is None:
        return "read", ""
    rows = missing_rows(pixels, whole)
    # Without a checksum a fill is what the file says; a PNG is protected by two.
    if rows >= 8 and not (filled and not kind.startswith("png")):
        return "wrong picture", f"{rows} rows at the end are empty"
    return "read", f"{pixels.shape[1]} x {pixels.shape[0]}"


def serve(seed: int) -> None:
    """A child: numbers come in by lines, verdicts go out by lines; what goes to the error stream is searched."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    answers = os.fdopen(os.dup(1), "w")
    files = seeds()
    words = {name[i : i + 6].encode() for name in NAMES.values() for i in range(len(name) - 5)}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as heard:
        path, wholes = Path(folder, "case.bin"), {}
        for kind, data in files.items():
            path.write_bytes(data)
            wholes[kind] = read(kind, path)
        os.dup2(heard.fileno(), 1)
        os.dup2(heard.fileno(), 2)
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            kind, data, filled = mutate(seed, int(line), files)
            path.write_bytes(data)
            heard.seek(0)
            heard.truncate()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            verdict, text = judge(kind, path, wholes[kind], filled)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
            sys.stderr.flush()
            heard.seek(0)
            if any(word in heard.read() + text.encode() for word in words):
                verdict = "leak"
            if grown > MEMORY:
                verdict, text = "memory", f"{grown} MB; {text}"
            answers.write(f"{line.strip()}\t{kind}\t{verdict}\t{' '.join(text.split())}\n")
            answers.flush()


class Child:
    """A reading process with a limit of memory, restarted after each case that it did not survive."""

    def __init__(self, seed: int, seconds: float, limit: int) -> None:
        self.command = [sys.executable, __file__, "--serve", "--seed", str(seed)]
        self.seconds, self.limit = seconds, limit << 20
        self.start()

    def start(self) -> None:
        def limits() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (self.limit, self.limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True, preexec_fn=limits)
        if self._line(120) != "ready":
            raise RuntimeError("fuzz: a child cannot read the undamaged files; run tools/fuzz.py --serve to see why")

    def _line(self, seconds: float) -> str | None:
        """A line of the child, None if it takes too long: in seconds of the processor, as the machine may be busy."""
        began, used = time.monotonic(), self._processor()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while self._processor() - used < seconds and time.monotonic() - began < 20 * seconds:
                if selector.select(1):
                    return self.process.stdout.readline().rstrip("\n")
        return None

    def _processor(self) -> float:
        try:
            times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:  # no Linux
            return time.monotonic()
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def case(self, number: int, kind: Callable[[int], str]) -> str:
        """The log's line of a case."""
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        line = self._line(self.seconds)
        if line:
            return line
        verdict = "crash" if line == "" else "hang"
        self.close()
        code = self.process.returncode
        self.start()
        return f"{number}\t{kind(number)}\t{verdict}\t{f'exit code {code}' if verdict == 'crash' else ''}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="cases in all, those of the log included")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="child processes")
    parser.add_argument("--seconds", type=float, default=10, help="limit of processor time for a case")
    parser.add_argument("--memory", type=int, default=6000, help="limit of a child's address space, in MB")
    parser.add_argument("--log", type=Path, default=None, help="default: fuzz-SEED.tsv")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="write one case to a file and stop")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.seed)
        return 0
    files = seeds()
    if arguments.show is not None:
        kind, data, _ = mutate(arguments.seed, arguments.show, files)
        path = Path(f"fuzz-{arguments.seed}-{arguments.show}.bin")
        path.write_bytes(data)
        print(f"{path}: {kind}, {len(data):,} bytes")
        return 0
    log = arguments.log or Path(f"fuzz-{arguments.seed}.tsv")
    lines = [line for line in log.read_text().splitlines() if line.count("\t") == 3] if log.exists() else []
    done = {int(line.split("\t")[0]) for line in lines}
    numbers, lock, started = iter([n for n in range(arguments.count) if n not in done]), threading.Lock(), time.time()

    def work() -> None:
        child = Child(arguments.seed, arguments.seconds, arguments.memory)
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                line = child.case(number, lambda n: list(files)[n % len(files)])
                with lock:
                    lines.append(line)
                    file.write(line + "\n")
                    file.flush()
                    if line.split("\t")[2] not in GOOD:
                        print(line, flush=True)
        finally:
            child.close()

    with open(log, "a", encoding="utf-8") as file:
        workers = [threading.Thread(target=work) for _ in range(arguments.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    counts = Counter(line.split("\t")[2] for line in lines)
    print(f"{len(lines):,} cases in {log}, {time.time() - started:.0f} s: {dict(counts.most_common())}")
    return int(len(lines) < arguments.count or any(verdict not in GOOD for verdict in counts))


if __name__ == "__main__":
    sys.exit(main())
