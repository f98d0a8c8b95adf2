"""From options to everything a training needs before its first step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.model import infer_arch
from fpga_squeeze.load.preprocess import Preprocess, read_preprocess
from fpga_squeeze.load.state_dict import Tensors, read_model_file
from fpga_squeeze.load.trained import Trained, read_trained
from fpga_squeeze.parallel import Group
from fpga_squeeze.train.checkpoint import CHECKPOINT_FILE
from fpga_squeeze.train.data import Augmentation, ImageFolder, Pictures, read_folder, split
from fpga_squeeze.train.fold import new_model
from fpga_squeeze.train.options import DEFAULT_ARCH, TrainOptions
from fpga_squeeze.zoo.arch import Arch, find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet


@dataclass(frozen=True, eq=False)
class Setup:
    """All that stays the same from the first step to the last."""

    options: TrainOptions
    group: Group
    device: torch.device
    arch: Arch
    preprocess: Preprocess
    folder: ImageFolder
    validation: ImageFolder | None
    pictures: Pictures
    new_head: bool
    fingerprint: dict[str, object]

    @property
    def steps_an_epoch(self) -> int:
        """Batches until every picture was seen once; the last one may be smaller."""
        return -(-len(self.folder.samples) // self.options.batch_size)

    @property
    def format_epochs(self) -> int:
        """At the start of how many epochs the formats are chosen (again)."""
        chosen = self.options.format_epochs
        return chosen if chosen is not None else max(1, self.options.epochs // 2) if self.new_head else 1


def prepare(options: TrainOptions, group: Group) -> tuple[Setup, SqueezeNet]:
    """The setup and the module to train, on this process's device. Raises InputError for whatever is wrong with folders, files and options."""
    if not options.resume and (options.out / CHECKPOINT_FILE).exists():
        raise InputError(f"-o {options.out}: a training is there already; --resume continues it, another folder begins a new one")
    folder = read_folder("--data", options.data)
    validation = None
    share = options.val_share()
    if share is not None:
        folder, validation = split(folder, share)
    elif options.val is not None:
        validation = read_folder("--val", Path(options.val), folder.classes)
    tensors, trained, name = _initial(options)
    arch = find_arch(name)
    channels = int(tensors["features.0.weight"].shape[1]) if tensors is not None and "features.0.weight" in tensors else arch.in_channels
    preprocess = _preprocess(options, arch, trained, channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model, new_head = new_model(arch, len(folder.classes), preprocess.channels, tensors, f"--init {options.init}")
    device = torch.device("cuda", group.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"-o {options.out}: the folder cannot be made ({error.strerror})") from error
    pictures = Pictures(folder.samples, preprocess, Augmentation.parse(options.augment), options.seed)
    fingerprint = _fingerprint(options, arch, preprocess, folder, validation)
    return Setup(options, group, device, arch, preprocess, folder, validation, pictures, new_head, fingerprint), model.to(device)


def _initial(options: TrainOptions) -> tuple[Tensors | None, Trained | None, str]:
    """(the weights to begin with, what their file says beside them, the arch's name)."""
    if options.init is None:
        return None, None, options.arch or DEFAULT_ARCH
    tensors, data = read_model_file(options.init)
    trained = read_trained(options.init, data)
    if options.arch is not None:
        return tensors, trained, options.arch
    return tensors, trained, trained.arch if trained is not None else infer_arch(options.init, tensors).name


def _preprocess(options: TrainOptions, arch: Arch, trained: Trained | None, channels: int) -> Preprocess:
    if trained is not None and options.preprocess is None:
        return trained.preprocess if options.input_size is None else trained.preprocess.resized(options.input_size)
    return read_preprocess(options.preprocess or arch.preprocess, options.input_size, arch.input_size, channels)


def _fingerprint(options: TrainOptions, arch: Arch, preprocess: Preprocess, folder: ImageFolder, validation: ImageFolder | None) -> dict[str, object]:
    """Whatever decides the weights, in words that an error message may use."""
    init = hashlib.sha256(options.init.read_bytes()).hexdigest()[:16] if options.init is not None else "none"
    return {
        "arch": arch.name, "--init (digest)": init, "--data (digest)": folder.digest()[:16],
        "--val (digest)": validation.digest()[:16] if validation is not None else "none", "preprocessing": preprocess.to_json(),
        "--epochs": options.epochs, "--lr": options.lr, "--batch-size": options.batch_size, "--optimizer": options.optimizer,
        "--weight-decay": options.weight_decay, "--qat": options.qat, "--weight-bits": options.weight_bits, "--act-bits": options.act_bits,
        "--format-epochs": options.format_epochs, "--augment": options.augment, "--seed": options.seed,
    }  # fmt: skip
