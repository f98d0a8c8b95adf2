"""Driver of the accelerator on a PYNQ board: numpy images in, class sums and classes out.

    from driver import Accelerator
    machine = Accelerator()                       # the .bit beside this file; loads the weights where the machine takes them over its load port
    classes, sums = machine.classify(images)      # uint8, (N, height, width, channels), RGB
    machine.check()                               # golden images of the export, class sums to the bit

Needs numpy and PYNQ (2.7 or newer); Pillow for `read_image` only. machine.json beside this file describes the machine.
The driver polls; no interrupt controller is needed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent

# AXI GPIO (PG144): channel 1 drives the machine's reset, channel 2 reads its status.
GPIO_CONTROL, GPIO_STATUS = 0x0, 0x8
# AXI DMA (PG021), direct register mode: control register of either channel, its reset bit, and the bits of a status register that are errors.
MM2S_DMACR, MM2S_DMASR, S2MM_DMASR, DMACR_RESET = 0x00, 0x04, 0x34, 0x4
DMA_ERRORS = {0x10: "internal error", 0x20: "slave error", 0x40: "decode error"}

GOOD = 0x84
LOAD_STATES = {
    0: "no weights came since reset",
    1: "the header of the weights comes",
    2: "the load waits for the frames in work",
    3: "weights are being written",
    4: "weights are in use",
    8: "no image of weights: the first bytes are not FSQ1",
    9: "the weights belong to a machine of another shape",
    10: "the weights have another length than this machine's",
    11: "the weights were cut short",
    12: "the weights were too long",
    13: "the weights were damaged on their way (CRC)",
}


class AcceleratorError(RuntimeError):
    """The accelerator did not do what it was told; the message says what it reports."""


class TransferTimeout(AcceleratorError):
    """A transfer did not end in time. Machine and DMA were reset; weights that had been loaded were loaded again."""


class Status(NamedTuple):
    """What the machine reports. `frames_in` came in whole and `frames_out` left, both modulo 256 since reset; `load` is the load state's number."""

    ready: bool
    load: int
    frame_error: bool
    has_load_port: bool
    frames_in: int
    frames_out: int

    def __str__(self) -> str:
        parts = [LOAD_STATES.get(self.load, f"load state {self.load}")] if self.has_load_port else []
        parts.append(f"{self.frames_in} frames came in whole and {self.frames_out} left since reset (modulo 256)")
        if self.frame_error:
            parts.append("a packet ended inside a frame")
        return "; ".join(parts)


class Accelerator:
    """One machine behind its DMA.

    Args:
        bitfile: the overlay; the only .bit beside this file when None.
        timeout_s: longest time for a batch or for the weights, in seconds.
        max_batch: frames of one DMA transfer; a larger array is sent in several. The buffers are allocated once, for so many frames.
        weights: file or bytes of the weights for a machine with a load port; weights.bin beside this file when None.
    Raises:
        AcceleratorError: no overlay, an overlay of another design, or weights that the machine refuses.
    """

    def __init__(self, bitfile=None, timeout_s=2.0, max_batch=None, weights=None):
        from pynq import Overlay, allocate

        self.machine = json.loads((HERE / "machine.json").read_text())
        self.timeout_s = timeout_s
        self.max_batch = self.machine["max_batch"] if max_batch is None else max_batch
        m = self.machine
        limit = m["max_transfer"] // max(m["frame_bytes"], m["answer_bytes"])
        if not 1 <= self.max_batch <= limit:
            raise ValueError(f"max_batch: 1 to {limit} frames was expected, got {max_batch}")
        self.overlay = Overlay(str(_find_bitfile(bitfile)))
        self.dma, self.control = self._block("dma"), self._block("control")
        self.load_dma = self._block("load_dma") if m["load_bytes"] else None
        self._allocate = allocate
        # Pixels are padded to whole power-of-two beats; the padding is zeroed once and never written again.
        self._pixels = allocate(shape=(self.max_batch, m["height"], m["width"], m["pixel_bytes"]), dtype=np.uint8)
        self._pixels[:] = 0
        self._answers = allocate(shape=(self.max_batch, m["answer_bytes"]), dtype=np.uint8)
        self._weights = None
        self.reset()
        status = self.status()
        if status.has_load_port != bool(m["load_bytes"]):
            raise AcceleratorError(f"the overlay is of another design than machine.json: status {status}")
        if m["load_bytes"]:
            self.load_weights(HERE / "weights.bin" if weights is None else weights)
        elif weights is not None:
            raise ValueError("weights: this machine has them in its bitstream and takes none")

    def _block(self, name):
        try:
            return getattr(self.overlay, name)
        except AttributeError:
            raise AcceleratorError(f"the overlay has no block {name!r}; one built by board/vivado/build.tcl of this export was expected") from None

    # ---------------------------------------------------------------- status and reset

    def status(self):
        """The machine's status register as a `Status`."""
        word = self.control.read(GPIO_STATUS)
        return Status(bool(word & 0x80), word & 0xF, bool(word & 0x100), bool(word & 0x200), word >> 16 & 0xFF, word >> 24 & 0xFF)

    def reset(self):
        """Stop everything: the machine forgets frames in work and loaded weights, the DMA its transfers. Weights must be loaded again."""
        self.control.write(GPIO_CONTROL, 1)
        for dma in (self.dma, self.load_dma):
            if dma is None:
                continue
            # One reset bit for both channels of a DMA; it reads as 1 until the reset is done.
            dma.write(MM2S_DMACR, DMACR_RESET)
            deadline = time.monotonic() + self.timeout_s
            while dma.read(MM2S_DMACR) & DMACR_RESET:
                if time.monotonic() > deadline:
                    raise AcceleratorError("the DMA does not leave its reset; is the clock of the programmable logic running?")
        self.control.write(GPIO_CONTROL, 0)
        self.dma.sendchannel.start()
        self.dma.recvchannel.start()
        if self.load_dma is not None:
            self.load_dma.sendchannel.start()

    def load_weights(self, weights):
        """Put weights into the machine, also between batches: a file (weights.bin, or one of `fpga-squeeze weights`) or its bytes.

        Raises:
            AcceleratorError: the machine refuses them, and says why. The weights before stay in use when the header was wrong already.
        """
        if self.load_dma is None:
            raise AcceleratorError("this machine has its weights in the bitstream and takes none; export with --weights loaded")
        data = bytes(weights) if isinstance(weights, (bytes, bytearray, memoryview)) else Path(weights).read_bytes()
        if not data:
            raise ValueError("weights: an image of weights was expected, it is empty")
        buffer = self._allocate(shape=(len(data),), dtype=np.uint8)
        try:
            buffer[:] = np.frombuffer(data, dtype=np.uint8)
            self.load_dma.sendchannel.transfer(buffer)
            self._wait("the weights", [("load_dma send", self.load_dma, MM2S_DMASR, self.load_dma.sendchannel)])
        except TransferTimeout:
            self._weights = None
            raise
        finally:
            _free(buffer)
        status = self.status()
        if not status.ready:
            self._weights = None
        if status.load != GOOD & 0xF:
            raise AcceleratorError(f"the machine refuses the weights: {status}")
        self._weights = data

    # ---------------------------------------------------------------- frames

    def class_sums(self, images):
        """Exact class sums, int64 (N, classes), of uint8 images (N, height, width, channels) or one (height, width, channels), RGB.

        Raises:
            ValueError: images of another shape or type. TransferTimeout, AcceleratorError: the hardware.
        """
        if self.machine["top_k"]:
            raise AcceleratorError(f"this machine sends its {self.machine['top_k']} best classes only; use classify")
        return self._decode(self.raw(images))[0]

    def classify(self, images, k=1):
        """The k best classes of each image and their sums, best first: two int64 arrays (N, k). Of equal sums the lower class comes first."""
        most = self.machine["top_k"] or self.machine["classes"]
        if not 1 <= k <= most:
            raise ValueError(f"k: 1 to {most} was expected, got {k}")
        sums, classes = self._decode(self.raw(images))
        if classes is not None:
            return classes[:, :k], sums[:, :k]
        best = np.argsort(-sums, axis=1, kind="stable")[:, :k]
        return best, np.take_along_axis(sums, best, axis=1)

    def raw(self, images):
        """The bytes that the machine sends for the images: uint8 (N, bytes of an answer)."""
        frames = self._check_images(images)
        answers = np.empty((len(frames), self.machine["answer_bytes"]), dtype=np.uint8)
        for at in range(0, len(frames), self.max_batch):
            part = frames[at : at + self.max_batch]
            self._pixels[: len(part), :, :, : self.machine["channels"]] = part
            self._run(len(part))
            answers[at : at + len(part)] = self._answers[: len(part)]
        return answers

    def _check_images(self, images):
        m = self.machine
        frames = np.asarray(images)
        if frames.shape == (m["height"], m["width"]) and m["channels"] == 1:
            frames = frames[..., np.newaxis]
        if frames.ndim == 3:
            frames = frames[np.newaxis]
        wanted = (m["height"], m["width"], m["channels"])
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != wanted:
            raise ValueError(f"images: uint8 of shape (N, {wanted[0]}, {wanted[1]}, {wanted[2]}) was expected, got {frames.dtype} of shape {np.shape(images)}")
        return frames

    def _run(self, count):
        """One transfer each way of `count` frames in the buffers."""
        status = self.status()
        if not status.ready:
            raise AcceleratorError(f"the machine takes no frames: {status}")
        send, receive = self.dma.sendchannel, self.dma.recvchannel
        size = count * self.machine["answer_bytes"]
        receive.transfer(self._answers, nbytes=size)
        send.transfer(self._pixels, nbytes=count * self.machine["frame_bytes"])
        what = f"a batch of {count} frames"
        self._wait(what, [("dma send", self.dma, MM2S_DMASR, send), ("dma receive", self.dma, S2MM_DMASR, receive)])
        status = self.status()
        if receive.transferred != size or status.frame_error:
            got = receive.transferred
            self._recover()
            raise AcceleratorError(f"{what}: {size} bytes of class sums were expected, {got} came; {status}")

    def _wait(self, what, channels):
        """Wait until every channel is idle. PYNQ's own wait() would wait for ever."""
        deadline = time.monotonic() + self.timeout_s
        pending = channels
        while pending:
            late = time.monotonic() > deadline
            waiting = []
            for name, dma, register, channel in pending:
                status = dma.read(register)
                errors = [text for bit, text in DMA_ERRORS.items() if status & bit]
                if errors:
                    report = self.status()
                    self._recover()
                    raise AcceleratorError(f"{what}: {name} reports {', '.join(errors)}; {report}")
                if not channel.idle:
                    waiting.append((name, dma, register, channel))
            if waiting and late:
                names = " and ".join(name for name, *_ in waiting)
                report = self.status()
                self._recover()
                raise TransferTimeout(f"{what}: {names} not done after {self.timeout_s:g} s; {report}")
            pending = waiting
        for _, _, _, channel in channels:
            channel.wait()

    def _recover(self):
        """Reset, and the weights that were in use again. When these do not go in either, the machine stays without."""
        weights, self._weights = self._weights, None
        self.reset()
        if weights is not None:
            try:
                self.load_weights(weights)
            except AcceleratorError:
                self.reset()

    def _decode(self, answers):
        """(sums, classes) of answers; classes is None unless the machine sends its best only."""
        m = self.machine
        beats = answers.reshape(len(answers), m["out_beats"], m["out_bytes"])
        sums = _integers(beats[:, :, : m["sum_bytes"]], f"<i{m['sum_bytes']}")
        if not m["top_k"]:
            return sums, None
        return sums, _integers(beats[:, :, m["sum_bytes"] : m["sum_bytes"] + m["index_bytes"]], f"<u{m['index_bytes']}")

    # ---------------------------------------------------------------- checks

    def check(self):
        """Run the golden images of the export and compare every class sum with the simulator's; returns how many were compared.

        They are the exported weights' sums: after load_weights of another model they differ, rightly.
        """
        images, expected = np.load(HERE / "golden_images.npy"), np.load(HERE / "golden_sums.npy")
        if self.machine["top_k"]:
            k = self.machine["top_k"]
            best = np.argsort(-expected, axis=1, kind="stable")[:, :k]
            classes, got = self.classify(images, k)
            expected = np.take_along_axis(expected, best, axis=1)
            wrong = np.argwhere((got != expected) | (classes != best))
        else:
            got = self.class_sums(images)
            wrong = np.argwhere(got != expected)
        if len(wrong):
            image, column = wrong[0]
            raise AcceleratorError(f"{len(wrong)} of {expected.size} class sums differ; the first is image {image}, sum {column}: {got[image, column]}, "
                                   f"the simulator has {expected[image, column]}")
        return int(expected.size)

    def throughput(self, batches=20, batch=None):
        """Frames a second of `batches` transfers of `batch` frames (max_batch when None), whatever lies in the buffer.

        Returns a dict: "frames", "seconds", "fps" as measured from Python, and "predicted_fps", the plan's at its clock.
        """
        count = self.max_batch if batch is None else batch
        if not 1 <= count <= self.max_batch or batches < 1:
            raise ValueError(f"batches: 1 or more, batch: 1 to {self.max_batch} was expected, got {batches} and {batch}")
        started = time.monotonic()
        for _ in range(batches):
            self._run(count)
        seconds = time.monotonic() - started
        return {"frames": batches * count, "seconds": seconds, "fps": batches * count / seconds, "predicted_fps": self.machine["predicted_fps"]}

    def read_image(self, path):
        """A picture file as the machine takes it, uint8 (height, width, channels): short side resized, centre cut out, as in the export."""
        from PIL import Image

        m = self.machine
        with Image.open(path) as image:
            image = image.convert("L" if m["channels"] == 1 else "RGB")
            short = min(image.size)
            width, height = int(m["resize"] * image.size[0] / short), int(m["resize"] * image.size[1] / short)
            if image.size != (width, height):
                image = image.resize((width, height), Image.BILINEAR)
            top, left = round((height - m["height"]) / 2.0), round((width - m["width"]) / 2.0)
            image = image.crop((left, top, left + m["width"], top + m["height"]))
            return np.array(image, dtype=np.uint8).reshape(m["height"], m["width"], m["channels"])

    def close(self):
        """Give the buffers back; the overlay stays loaded."""
        for buffer in (self._pixels, self._answers):
            _free(buffer)


def _integers(data, kind):
    """Little-endian integers in the last axis of a uint8 array, as int64."""
    return np.ascontiguousarray(data).view(kind)[..., 0].astype(np.int64)


def _find_bitfile(bitfile):
    if bitfile is not None:
        return bitfile
    found = sorted(HERE.glob("*.bit"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise AcceleratorError(f"one .bit file in {HERE} was expected, found {names}; give bitfile=, or build one with board/vivado/build.tcl")
    return found[0]


def _free(buffer):
    """PYNQ buffers have freebuffer(); what a newer version renames is freed by the garbage collector."""
    release = getattr(buffer, "freebuffer", None)
    if release is not None:
        release()
